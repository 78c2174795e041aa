/* virtio-blk's data plane without a machine: a driver that keeps a queue full and counts, and, for comparison, a
 * loop over liburing that reads the same blocks and does nothing else. Prints nanoseconds a request.
 *
 * usage: dataplane null|uring|threads|floor DEPTH REQUESTS [FILE]   (4 KiB reads at random places of FILE) */
#define _GNU_SOURCE
#include "blk.h"
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define SIZE 1024 /* of the queue; a request takes three descriptors */
#define DEPTH_MAX (SIZE / 3)
#define RAM (16u << 20)
#define RINGS 0x10000
#define HEADERS 0x40000
#define STATUSES 0x50000
#define BUFFERS 0x100000

static uint8_t *ram;
static uint64_t random_state = 88172645463325252ull;

/* A benchmark of the data plane alone has no jail. */
void corral_jail_enter_or_end(enum corral_jail_kind kind)
{
    (void)kind;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static uint64_t random_block(uint64_t blocks)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % blocks;
}

static int failed(const char *what)
{
    perror(what);
    return 1;
}

static int drive(unsigned engine, unsigned depth, unsigned long requests, int fd, uint64_t size)
{
    struct corral_ram guest = {.host = ram, .low_end = RAM};
    int line = eventfd(0, 0);
    struct corral_virtio_irq irq;
    corral_virtio_irq_init(&irq, line);
    struct corral_blk_config config = {.fd = fd, .overlay_fd = -1, .size = size, .block_size = 512, .n_queues = 1,
                                       .engine = engine, .worker = {.name = "blk0", .broken_fd = -1}};
    struct corral_blk *b = corral_blk_create(&config, &guest, &irq);
    if (!b)
        return failed("corral_blk_create");

    struct vring ring;
    vring_init(&ring, SIZE, ram + RINGS, 4096);
    struct virtio_blk_outhdr *headers = (void *)(ram + HEADERS);
    for (unsigned i = 0; i < depth; i++) {
        ring.desc[3 * i] = (struct vring_desc){HEADERS + i * 16, 16, VRING_DESC_F_NEXT, 3 * i + 1};
        ring.desc[3 * i + 1] = (struct vring_desc){BUFFERS + i * BLOCK, BLOCK, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE,
                                                   3 * i + 2};
        ring.desc[3 * i + 2] = (struct vring_desc){STATUSES + i, 1, VRING_DESC_F_WRITE, 0};
    }
    int kick = eventfd(0, 0);
    struct corral_virtq_setup setup = {.size = SIZE, .ready = true, .desc = RINGS,
                                       .avail = (uint8_t *)ring.avail - ram, .used = (uint8_t *)ring.used - ram};
    int error = corral_blk_start(b, 1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_BLK_F_FLUSH, &setup, &kick, NULL);
    if (error < 0)
        return errno = -error, failed("corral_blk_start");

    unsigned long added = 0, done = 0, bad = 0;
    uint16_t seen = 0, shown = 0;
    eventfd_t value;
    unsigned free_slots = depth, slots[DEPTH_MAX];
    for (unsigned i = 0; i < depth; i++)
        slots[i] = i;
    double start = now();
    while (done < requests) {
        uint16_t avail = shown;
        while (free_slots && added < requests) {
            unsigned slot = slots[--free_slots];
            headers[slot] = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN,
                                                       .sector = random_block(size / BLOCK) * (BLOCK / 512)};
            ring.avail->ring[avail++ % SIZE] = 3 * slot;
            added++;
        }
        if (avail != shown) {
            __atomic_store_n(&ring.avail->idx, avail, __ATOMIC_RELEASE);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (vring_need_event(vring_avail_event(&ring), avail, shown))
                eventfd_write(kick, 1);
            shown = avail;
        }
        /* An interrupt when half of what is in flight has come back: what there is, is taken at once. */
        vring_used_event(&ring) = seen + (depth - free_slots) / 2;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        uint16_t used = __atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE);
        if ((uint16_t)(used - seen) <= (depth - free_slots) / 2) {
            eventfd_read(line, &value);
            used = __atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE);
        }
        for (; seen != used; seen++, done++) {
            unsigned slot = ring.used->ring[seen % SIZE].id / 3;
            bad += ram[STATUSES + slot] != VIRTIO_BLK_S_OK;
            slots[free_slots++] = slot;
        }
    }
    double end = now();
    struct corral_blk_stats stats;
    corral_blk_stats(b, 0, &stats);
    corral_blk_destroy(b);
    if (bad || stats.reads != requests)
        return fprintf(stderr, "%lu of %lu requests failed\n", bad, requests), 1;
    printf("%f\n", (end - start) / requests);
    fprintf(stderr, "%.1f requests a round, %.1f an interrupt\n", (double)requests / stats.rounds,
            (double)requests / stats.interrupts);
    return 0;
}

static int plain_loop(unsigned depth, unsigned long requests, int fd, uint64_t size)
{
    struct io_uring r;
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    if (io_uring_queue_init_params(512, &r, &p) < 0)
        return failed("io_uring");
    io_uring_register_files(&r, &fd, 1);
    unsigned free_slots = depth, slots[DEPTH_MAX];
    for (unsigned i = 0; i < depth; i++)
        slots[i] = i;
    unsigned long added = 0, done = 0, bad = 0;
    double start = now();
    while (done < requests) {
        while (free_slots && added < requests) {
            unsigned slot = slots[--free_slots];
            struct io_uring_sqe *sqe = io_uring_get_sqe(&r);
            io_uring_prep_read(sqe, 0, ram + BUFFERS + slot * BLOCK, BLOCK, random_block(size / BLOCK) * BLOCK);
            sqe->flags |= IOSQE_FIXED_FILE;
            sqe->user_data = slot;
            added++;
        }
        io_uring_submit_and_wait(&r, 1);
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        io_uring_for_each_cqe(&r, head, cqe)
        {
            bad += cqe->res != BLOCK;
            slots[free_slots++] = cqe->user_data;
            n++;
        }
        io_uring_cq_advance(&r, n);
        done += n;
    }
    double end = now();
    if (bad)
        return fprintf(stderr, "%lu of %lu reads failed\n", bad, requests), 1;
    printf("%f\n", (end - start) / requests);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fprintf(stderr, "usage: dataplane null|uring|threads|floor DEPTH REQUESTS [FILE]\n"), 2;
    const char *what = argv[1];
    unsigned depth = atoi(argv[2]);
    unsigned long requests = atol(argv[3]);
    int fd = argc > 4 ? open(argv[4], O_RDWR) : -1;
    struct stat s = {.st_size = 1 << 30};
    if (argc > 4 && (fd < 0 || fstat(fd, &s) < 0))
        return failed(argv[4]);
    if (!depth || depth > DEPTH_MAX)
        return fprintf(stderr, "a depth of 1 to %d\n", DEPTH_MAX), 2;
    ram = mmap(0, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (!strcmp(what, "floor"))
        return plain_loop(depth, requests, fd, s.st_size);
    unsigned engine = !strcmp(what, "null") ? CORRAL_BLK_NULL
                      : !strcmp(what, "uring") ? CORRAL_BLK_URING
                                               : CORRAL_BLK_THREADS;
    return drive(engine, depth, requests, fd, s.st_size);
}
