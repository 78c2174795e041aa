/* QueueNotify of a virtio device over MMIO (virtio 1.2, 4.2.2): an exit that C finishes, until it has been rung so
 * often that an ioeventfd pays, by which KVM takes it without an exit.
 *
 * An ioeventfd saves some 9 us a ring, and a VM that has one waits 12 to 19 ms for an SRCU grace period of the
 * host's kernel when it is closed. A command that says a few words needs none.
 */
#ifndef CORRAL_VIRTIO_DOORBELLS_H
#define CORRAL_VIRTIO_DOORBELLS_H

#include "virtio_irq.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_DOORBELLS_LATE 100 /* rings, after which KVM takes them */

/* Made before a vCPU runs, and changed by C alone after. */
struct corral_doorbells {
    int vm_fd;
    uint64_t gpa; /* of the register */
    unsigned n;
    bool any;                         /* whatever is written rings the first; else N rings doorbell N */
    uint64_t rings;                   /* atomic: as exits */
    int fd[CORRAL_VIRTIO_QUEUES_MAX]; /* eventfds */
};

/* A corral_register_op over the register; `device` is a struct corral_doorbells. */
bool corral_doorbells_ring(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value);

/* Has KVM take them. 0 or -errno; then some may be taken, and exits ring the others. */
int corral_doorbells_take(const struct corral_doorbells *d);

#endif
