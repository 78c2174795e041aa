/* The interrupt of a virtio device: a status that the guest reads and acknowledges, and a line. */
#ifndef CORRAL_VIRTIO_IRQ_H
#define CORRAL_VIRTIO_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* InterruptStatus and InterruptACK (virtio 1.2, 4.2.2). */
#define CORRAL_VIRTIO_USED 1u
#define CORRAL_VIRTIO_CONFIG 2u

struct corral_virtio_irq {
    int fd;          /* eventfd that an irqfd binds to the line */
    uint32_t status; /* atomic: workers set bits while vCPUs clear others */
    uint64_t sent;   /* atomic */
};

/* Sets bits of the status and raises the line; from any thread. */
void corral_virtio_interrupt(struct corral_virtio_irq *irq, uint32_t bits);

/* A corral_pio_op over the two registers, with InterruptStatus at offset 0. */
bool corral_virtio_irq_access(void *irq, bool write, uint16_t offset, uint8_t size, uint32_t *value);

#endif
