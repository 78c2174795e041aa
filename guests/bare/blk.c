/* Drives a virtio-blk device by polling, as fast as it goes, and looks at what it reads.
 *
 * Each 8 bytes of sector n of the image are corral's pattern(n), or written(n) once this guest has written it.
 * On the command line:
 *   op=read|write  order=random|sequential  depth=1..256  requests=N (of 4 KiB)   verify=N (blocks, afterwards)
 *   wait           before each step for a byte on the serial line */
#include "device.h"

#include <linux/virtio_blk.h>

#define BLOCK 4096
#define SECTOR 512
#define SECTORS (BLOCK / SECTOR)
#define WORDS (SECTOR / sizeof(uint64_t))
#define BLOCKS_MAX (1ull << 21) /* 8 GiB: what `was_written` can tell of */

/* One request, with the indirect table that describes it (section 2.7.5.3): so a queue of 256 holds 256 of them.
 */
struct request {
    struct vring_desc parts[3];
    struct virtio_blk_outhdr header;
    uint8_t status;
} __attribute__((aligned(64)));

static struct device disk;
static uint64_t blocks;
static struct request requests[QUEUE_SIZE];
static uint64_t buffers[QUEUE_SIZE][SECTORS][WORDS] __attribute__((aligned(BLOCK)));
static uint8_t was_written[BLOCKS_MAX / 8];

static uint64_t pattern(uint64_t sector)
{
    return (sector + 1) * 0x9e3779b97f4a7c15;
}

static uint64_t written(uint64_t sector)
{
    return ~pattern(sector);
}

static void prepare(unsigned slot, uint32_t type)
{
    struct request *r = &requests[slot];
    uint16_t to_us = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0;
    r->header = (struct virtio_blk_outhdr){.type = type};
    r->parts[0] = (struct vring_desc){(uintptr_t)&r->header, sizeof r->header, VRING_DESC_F_NEXT, 1};
    r->parts[1] = (struct vring_desc){(uintptr_t)buffers[slot], BLOCK, VRING_DESC_F_NEXT | to_us, 2};
    r->parts[2] = (struct vring_desc){(uintptr_t)&r->status, 1, VRING_DESC_F_WRITE, 0};
    disk.ring.desc[slot] = (struct vring_desc){(uintptr_t)r->parts, sizeof r->parts, VRING_DESC_F_INDIRECT, 0};
}

static void submit(unsigned slot, uint64_t block)
{
    struct request *r = &requests[slot];
    r->header.sector = block * SECTORS;
    r->status = 0xff;
    if (r->header.type == VIRTIO_BLK_T_OUT) {
        for (unsigned s = 0; s < SECTORS; s++)
            for (unsigned w = 0; w < WORDS; w++)
                buffers[slot][s][w] = written(r->header.sector + s);
        was_written[block / 8] |= 1 << block % 8;
    }
    device_add(&disk, slot);
}

static _Noreturn void wrong(uint64_t sector, uint64_t is, uint64_t should_be)
{
    print("wrong: sector ");
    print_number(sector);
    print(" has ");
    print_number(is);
    print(" instead of ");
    print_number(should_be);
    print("\n");
    end();
}

/* The next request that is finished, and went well; -1: there is none. */
static int take(void)
{
    int slot = device_take(&disk);
    if (slot >= 0 && requests[slot].status != VIRTIO_BLK_S_OK)
        fail("a request failed");
    return slot;
}

/* One word of what was read, a different one each time: to look at all of it would be most of this guest's work.
 */
static void glance(unsigned slot, uint64_t random)
{
    uint64_t sector = requests[slot].header.sector + random % SECTORS;
    uint64_t is = buffers[slot][random % SECTORS][random / SECTORS % WORDS];
    if (is != pattern(sector))
        wrong(sector, is, pattern(sector));
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void run(uint64_t count, unsigned depth, uint32_t type, bool sequential)
{
    uint64_t state = 88172645463325252ull + cycles(), submitted = 0, done = 0;
    unsigned free[QUEUE_SIZE], n_free = depth;
    for (unsigned slot = 0; slot < depth; slot++) {
        prepare(slot, type);
        free[slot] = slot;
    }
    uint64_t notified = disk.notified, start = cycles();
    while (done < count) {
        while (n_free && submitted < count) {
            uint64_t block = sequential ? submitted % blocks : (next_random(&state) >> 32) * blocks >> 32;
            submit(free[--n_free], block);
            submitted++;
        }
        device_show(&disk);
        for (int slot; (slot = take()) >= 0; done++) {
            if (type == VIRTIO_BLK_T_IN)
                glance(slot, state + done);
            free[n_free++] = slot;
        }
        __builtin_ia32_pause();
    }
    uint64_t took = cycles() - start;
    print("ran ");
    print_number(count);
    print(" requests in ");
    print_number(took);
    print(" cycles with ");
    print_number(disk.notified - notified);
    print(" doorbells\n");
}

/* Reads `count` blocks, evenly over the disk, or those of them that were written, and looks at each word. */
static void verify(uint64_t count, bool only_written)
{
    prepare(0, VIRTIO_BLK_T_IN);
    uint64_t step = (blocks + count - 1) / count;
    uint64_t n = 0;
    for (uint64_t block = 0; block < blocks; block += step) {
        bool ours = was_written[block / 8] >> block % 8 & 1;
        if (only_written && !ours)
            continue;
        n++;
        submit(0, block);
        device_show(&disk);
        while (take() < 0)
            __builtin_ia32_pause();
        for (unsigned s = 0; s < SECTORS; s++) {
            uint64_t sector = block * SECTORS + s, should_be = ours ? written(sector) : pattern(sector);
            for (unsigned w = 0; w < WORDS; w++)
                if (buffers[0][s][w] != should_be)
                    wrong(sector, buffers[0][s][w], should_be);
        }
    }
    print("right: ");
    print_number(n);
    print(" blocks\n");
}

_Noreturn void drive(const struct start_info *info)
{
    command_line = (const char *)info->command_line;
    bool wait = word(command_line, "wait");
    uint64_t depth = option("depth=", 1), count = option("requests=", 1000), verified = option("verify=", 256);
    uint32_t type = word(command_line, "op=write") ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    if (!depth || depth > QUEUE_SIZE || !verified)
        fail("a depth of 1 to 256, and blocks to verify");

    device_open(&disk, 2, 1ull << VIRTIO_RING_F_INDIRECT_DESC, 1ull << VIRTIO_BLK_F_FLUSH);
    blocks = device_config(&disk, 0) / SECTORS;
    if (!blocks || blocks > BLOCKS_MAX)
        fail("a disk of 4 KiB to 8 GiB");
    print("ready\n");
    if (wait)
        await_byte();
    run(count, depth, type, word(command_line, "order=sequential"));
    if (wait)
        await_byte();
    verify(verified, type == VIRTIO_BLK_T_OUT);
    end();
}
