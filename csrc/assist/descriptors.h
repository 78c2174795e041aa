/* Gates and segments of a guest's descriptor tables (SDM 3A, 3.4.5 and 6.11). */
#ifndef CORRAL_DESCRIPTORS_H
#define CORRAL_DESCRIPTORS_H

#include "vcpu.h"

#define CORRAL_EFER_LMA (1ULL << 10)
#define CORRAL_RPL 3u /* of a selector */

struct corral_gate {
    uint64_t offset;
    uint8_t type, dpl;
    bool system, present;
};

/* A gate of the IDT. False: it is behind the table's limit, or not to be read. */
bool corral_read_gate(struct corral_vcpu *v, uint8_t vector, struct corral_gate *gate);

/* A segment of GDT or LDT, as a register would hold it. False: there is none by that selector. */
bool corral_read_segment(struct corral_vcpu *v, uint16_t selector, struct kvm_segment *segment);

#endif
