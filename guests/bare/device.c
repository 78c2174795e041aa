#include "device.h"

#include <linux/virtio_config.h>

#define MAGIC 0x74726976 /* "virt" */

static uint8_t rings[3 * 4096] __attribute__((aligned(4096)));

/* Of `SIZE@ADDRESS:IRQ`. */
static uintptr_t address_of(const char *text)
{
    while (*text && *text != ' ' && *text != '@')
        text++;
    return *text == '@' ? number(text + 1) : 0;
}

static uintptr_t find(uint32_t id)
{
    const char *at = command_line;
    while ((at = word(at, "virtio_mmio.device="))) {
        uintptr_t registers = address_of(at);
        if (read_register(registers + VIRTIO_MMIO_MAGIC_VALUE) == MAGIC &&
            read_register(registers + VIRTIO_MMIO_VERSION) == 2 &&
            read_register(registers + VIRTIO_MMIO_DEVICE_ID) == id)
            return registers;
    }
    fail("no such device of version 2");
}

static void negotiate(struct device *d, uint64_t required, uint64_t wanted)
{
    uint64_t offered = 0;
    for (unsigned half = 0; half < 2; half++) {
        write_register(d->registers + VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        offered |= (uint64_t)read_register(d->registers + VIRTIO_MMIO_DEVICE_FEATURES) << 32 * half;
    }
    if (required & ~offered)
        fail("the device lacks a feature");
    d->features = offered & (required | wanted);
    for (unsigned half = 0; half < 2; half++) {
        write_register(d->registers + VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write_register(d->registers + VIRTIO_MMIO_DRIVER_FEATURES, d->features >> 32 * half);
    }
}

static void set_address(const struct device *d, unsigned low_register, const void *at)
{
    write_register(d->registers + low_register, (uintptr_t)at);
    write_register(d->registers + low_register + 4, (uintptr_t)at >> 32);
}

static void set_queue_up(struct device *d)
{
    vring_init(&d->ring, QUEUE_SIZE, rings, 4096);
    device_want_no_interrupt(d);
    write_register(d->registers + VIRTIO_MMIO_QUEUE_SEL, 0);
    if (read_register(d->registers + VIRTIO_MMIO_QUEUE_NUM_MAX) < QUEUE_SIZE)
        fail("the queue is too small");
    write_register(d->registers + VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
    set_address(d, VIRTIO_MMIO_QUEUE_DESC_LOW, d->ring.desc);
    set_address(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, d->ring.avail);
    set_address(d, VIRTIO_MMIO_QUEUE_USED_LOW, d->ring.used);
    write_register(d->registers + VIRTIO_MMIO_QUEUE_READY, 1);
}

void device_open(struct device *d, uint32_t id, uint64_t required, uint64_t wanted)
{
    d->registers = find(id);
    unsigned status = 0;
    const unsigned steps[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER};
    write_register(d->registers + VIRTIO_MMIO_STATUS, 0);
    for (unsigned i = 0; i < 2; i++)
        write_register(d->registers + VIRTIO_MMIO_STATUS, status |= steps[i]);
    negotiate(d, required | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX, wanted);
    write_register(d->registers + VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
    if (!(read_register(d->registers + VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK))
        fail("the device does not take the features");
    set_queue_up(d);
    write_register(d->registers + VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

uint64_t device_config(const struct device *d, unsigned offset)
{
    uintptr_t at = d->registers + VIRTIO_MMIO_CONFIG + offset;
    return read_register(at) | (uint64_t)read_register(at + 4) << 32;
}
