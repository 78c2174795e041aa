/* Guest memory by linear address, as the guest's own supervisor code would reach it: page tables, rights, faults.
 */
#ifndef CORRAL_GUEST_ACCESS_H
#define CORRAL_GUEST_ACCESS_H

#include "vcpu.h"

#define CORRAL_PF_PRESENT 1
#define CORRAL_PF_WRITE 2
#define CORRAL_PF_USER 4
#define CORRAL_PF_FETCH 16

/* A page fault that an access met. */
struct corral_page_fault {
    uint64_t address;
    uint32_t error_code;
};

enum corral_access_result {
    CORRAL_ACCESS_OK,
    CORRAL_ACCESS_FAULT, /* the guest gets a page fault */
    CORRAL_ACCESS_NOT_CANONICAL,
    CORRAL_ACCESS_NOT_RAM /* mapped to a device, to nothing, or by a paging mode that is not walked */
};

/* Copies size bytes from the guest (write == false) or to it. A write is checked as a whole before a byte changes.
 * The state is that of run's sync-regs area. */
enum corral_access_result corral_access(struct corral_vcpu *v, uint64_t address, void *buffer, size_t size,
                                        bool write, struct corral_page_fault *fault);

/* Whether corral_access would succeed. Nothing changes, the tables' accessed and dirty bits included. */
enum corral_access_result corral_access_check(struct corral_vcpu *v, uint64_t address, size_t size, bool write,
                                              struct corral_page_fault *fault);

/* The host address of [address, address + size), which must not cross a page; NULL with result set otherwise. */
void *corral_access_in_place(struct corral_vcpu *v, uint64_t address, size_t size, bool write,
                             enum corral_access_result *result, struct corral_page_fault *fault);

/* Reads what a CPU reads for itself, descriptor tables for one. False: it is not there. */
bool corral_read_system(struct corral_vcpu *v, uint64_t address, void *buffer, size_t size);

/* Bytes of code, as the guest's CPU would fetch them at the linear address. Returns how many it gets; when those
 * are fewer than size, result and fault say why. */
size_t corral_fetch(struct corral_vcpu *v, uint64_t address, uint8_t *bytes, size_t size,
                    enum corral_access_result *result, struct corral_page_fault *fault);

/* For whoever only looks: copies what is mapped, whatever its rights, and changes nothing. Returns how many bytes
 * there are without a gap. */
size_t corral_peek(const struct corral_ram *ram, const struct kvm_sregs *sregs, uint64_t address, void *buffer,
                   size_t size);

#endif
