/* Asks a disk for more than it can do in minutes: a queue full of requests of almost 4 GiB each, all with the same
 * memory, as soon as there is a byte on the serial line. Then it spins, or resets the device. On the command line:
 *   op=read|write  requests=1..256  segments=1..254 (of 16 MiB)   reset */
#include "device.h"

#include <linux/virtio_blk.h>

#define SEGMENTS_MAX 254
#define SEGMENT (16u << 20)
#define BUFFER (8u << 20)

static struct device disk;
static struct virtio_blk_outhdr header;
static uint8_t statuses[QUEUE_SIZE];
static struct vring_desc tables[QUEUE_SIZE][SEGMENTS_MAX + 2] __attribute__((aligned(4096)));

static void add(unsigned slot, unsigned segments, uint16_t to_us)
{
    struct vring_desc *t = tables[slot];
    t[0] = (struct vring_desc){(uintptr_t)&header, sizeof header, VRING_DESC_F_NEXT, 1};
    for (unsigned i = 1; i <= segments; i++)
        t[i] = (struct vring_desc){BUFFER, SEGMENT, VRING_DESC_F_NEXT | to_us, i + 1};
    t[segments + 1] = (struct vring_desc){(uintptr_t)&statuses[slot], 1, VRING_DESC_F_WRITE, 0};
    disk.ring.desc[slot] = (struct vring_desc){(uintptr_t)t, (segments + 2) * sizeof *t, VRING_DESC_F_INDIRECT, 0};
    device_add(&disk, slot);
}

_Noreturn void drive(const struct start_info *info)
{
    command_line = (const char *)info->command_line;
    bool write = word(command_line, "op=write");
    uint64_t requests = option("requests=", QUEUE_SIZE), segments = option("segments=", SEGMENTS_MAX);
    if (!requests || requests > QUEUE_SIZE || !segments || segments > SEGMENTS_MAX)
        fail("as many requests as the queue holds, and 1 to 254 segments");
    header.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    device_open(&disk, 2, 1ull << VIRTIO_RING_F_INDIRECT_DESC, 1ull << VIRTIO_BLK_F_FLUSH);
    print("ready\n");
    await_byte();
    for (unsigned slot = 0; slot < requests; slot++)
        add(slot, segments, write ? 0 : VRING_DESC_F_WRITE);
    device_show(&disk);
    print("posted\n");
    if (word(command_line, "reset")) {
        write_register(disk.registers + VIRTIO_MMIO_STATUS, 0);
        unsigned status = read_register(disk.registers + VIRTIO_MMIO_STATUS);
        print(status ? "reset, status " : "reset\n");
        if (status)
            print_number(status), print("\n");
        end();
    }
    for (;;)
        __builtin_ia32_pause();
}
