/* A virtio device behind registers in memory, version 2, with one queue (virtio 1.2, sections 2.7, 3.1 and 4.2).
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "bare.h"

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#ifndef QUEUE_SIZE
#define QUEUE_SIZE 256
#endif

struct device {
    uintptr_t registers;
    uint64_t features; /* as negotiated */
    struct vring ring;
    uint16_t added;    /* chains given to the device, as avail->idx counts them */
    uint16_t shown;    /* up to here it can see them */
    uint16_t taken;    /* chains taken back, as used->idx counts them */
    uint64_t notified; /* doorbells */
};

/* The first device with this id that the command line tells of, ready to be driven. Ends the guest if there is
 * none, or if it lacks one of the features that are `required`; of `wanted` it gets what it offers. */
void device_open(struct device *d, uint32_t id, uint64_t required, uint64_t wanted);

/* 64 bits of the device's configuration. */
uint64_t device_config(const struct device *d, unsigned offset);

/* Gives the chain that begins at descriptor `head` to the device, which sees it at the next device_show. */
static inline void device_add(struct device *d, uint16_t head)
{
    d->ring.avail->ring[d->added++ % QUEUE_SIZE] = head;
}

/* Shows what was added, and rings if the device wants that. */
static inline void device_show(struct device *d)
{
    if (d->added == d->shown)
        return;
    /* Release: the chains come first. The barrier after it pairs with the device's between its asking for
     * doorbells and its last look at idx (section 2.7.13.4). */
    __atomic_store_n(&d->ring.avail->idx, d->added, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool wanted =
        vring_need_event(__atomic_load_n(&vring_avail_event(&d->ring), __ATOMIC_RELAXED), d->added, d->shown);
    d->shown = d->added;
    if (wanted) {
        d->notified++;
        write_register(d->registers + VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }
}

/* Half way around from where the device is, so that it does not get there (section 2.7.10). */
static inline void device_want_no_interrupt(struct device *d)
{
    vring_used_event(&d->ring) = d->taken + 0x8000;
}

/* Takes a chain back: its head, or -1 when the device has finished none. */
static inline int device_take(struct device *d)
{
    /* Acquire: pairs with the device's release of idx, after the elements and the buffers (section 2.7.14). */
    if (__atomic_load_n(&d->ring.used->idx, __ATOMIC_ACQUIRE) == d->taken)
        return -1;
    uint16_t head = d->ring.used->ring[d->taken++ % QUEUE_SIZE].id;
    device_want_no_interrupt(d);
    return head;
}

#endif
