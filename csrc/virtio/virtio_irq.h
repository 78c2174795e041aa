/* The interrupts of a virtio device: one for each queue, and one for a change of its configuration.
 *
 * A device says what happened, the transport has said where that is signalled: over MMIO all are one line with a
 * status that the guest reads and acknowledges; a transport with a vector a queue gives each an eventfd of its
 * own.
 */
#ifndef CORRAL_VIRTIO_IRQ_H
#define CORRAL_VIRTIO_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* InterruptStatus and InterruptACK (virtio 1.2, 4.2.2). */
#define CORRAL_VIRTIO_USED 1u
#define CORRAL_VIRTIO_CONFIG 2u

/* --- for Python --- */

#define CORRAL_VIRTIO_QUEUES_MAX 64 /* of a device */

struct corral_virtio_irq {
    uint32_t status; /* atomic: workers set bits while vCPUs clear others */
    uint64_t sent;   /* atomic */
    /* Eventfds that an irqfd binds to a line or vector; -1: nothing is signalled. */
    int config_fd;
    int queue_fd[CORRAL_VIRTIO_QUEUES_MAX];
};

/* All interrupts are signalled at `fd`, and the status is 0. */
void corral_virtio_irq_init(struct corral_virtio_irq *irq, int fd);

/* The device has used buffers of `queue`. From any thread, as is the next. */
void corral_virtio_irq_used(struct corral_virtio_irq *irq, unsigned queue);

/* Its configuration has changed, or it needs a reset (section 2.1.2). */
void corral_virtio_irq_config(struct corral_virtio_irq *irq);

/* A corral_register_op over the two registers, with InterruptStatus at offset 0. */
bool corral_virtio_irq_access(void *irq, bool write, uint64_t offset, uint8_t size, uint32_t *value);

#endif
