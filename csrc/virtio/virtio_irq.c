#include "virtio_irq.h"

#include <unistd.h>

#define STATUS 0 /* 0x60 */
#define ACK 4    /* 0x64 */

static void raise_line(struct corral_virtio_irq *irq, int fd, uint32_t bits)
{
    const uint64_t one = 1;
    /* Release: a guest that reads the status sees what was published before. The line comes after the status, or
     * the guest's handler would find nothing and the interrupt would be lost. */
    __atomic_fetch_or(&irq->status, bits, __ATOMIC_ACQ_REL);
    __atomic_fetch_add(&irq->sent, 1, __ATOMIC_RELAXED);
    /* Cannot fail but for a counter that is full of signals that are not delivered yet. */
    if (write(fd, &one, sizeof one) < 0)
        return;
}

void corral_virtio_irq_init(struct corral_virtio_irq *irq, int fd)
{
    *irq = (struct corral_virtio_irq){.config_fd = fd};
    for (unsigned i = 0; i < CORRAL_VIRTIO_QUEUES_MAX; i++)
        irq->queue_fd[i] = fd;
}

void corral_virtio_irq_used(struct corral_virtio_irq *irq, unsigned queue)
{
    raise_line(irq, irq->queue_fd[queue], CORRAL_VIRTIO_USED);
}

void corral_virtio_irq_config(struct corral_virtio_irq *irq)
{
    raise_line(irq, irq->config_fd, CORRAL_VIRTIO_CONFIG);
}

bool corral_virtio_irq_access(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value)
{
    struct corral_virtio_irq *irq = device;
    if (size != sizeof *value)
        return false;
    if (offset == STATUS && !write) {
        *value = __atomic_load_n(&irq->status, __ATOMIC_ACQUIRE);
        return true;
    }
    if (offset == ACK && write) {
        __atomic_fetch_and(&irq->status, ~*value, __ATOMIC_ACQ_REL);
        return true;
    }
    return false;
}
