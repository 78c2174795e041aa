/* A guest that means harm, by coverage: an input is a disk's configuration and a sequence of what a driver does.
 *
 * libFuzzer's harness over the C data plane alone, without KVM. Beside the sanitizers it checks, while the input
 * has kept to the rules: each request comes back once, with a status; nothing outside of its buffers is written;
 * and always: the image keeps its size, a base below a layer or a read-only image keeps its bytes, and nothing is
 * left open or running. An input that takes longer than libFuzzer's -timeout is a hang. */
#define _GNU_SOURCE
#include "blk.h"
#include "input.h"
#include "jail.h"
#include "virtq.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM (1u << 17)
#define QUEUES 2
#define QUEUE_SIZE 16
#define QUEUE_AT(i) (0x1000u + 0x4000u * (i)) /* its descriptors; then: */
#define AVAIL_AT(i) (QUEUE_AT(i) + 0x1000u)
#define USED_AT(i) (QUEUE_AT(i) + 0x2000u)
#define TABLES_AT(i) (QUEUE_AT(i) + 0x2400u) /* indirect ones, 16 entries for each head */
#define DATA_AT 0x10000u
#define LOW (RAM - 0x8000u) /* what is behind that the guest sees from 4 GiB on */
#define CANARY 0xa5
#define IMAGE (1u << 16)
#define MOST_STEPS 48
#define PATIENCE 40000 /* times 50 us, for requests that must come back */

static uint32_t below(struct input *in, uint32_t limit)
{
    return take(in, limit > 256 ? 2 : 1) % limit;
}

/* --- a host that is short of things --- */

/* Allocations, and threads, until one fails; wrapped by the linker. */
static unsigned until_failure = UINT32_MAX;

static bool fails(void)
{
    return until_failure != UINT32_MAX && !until_failure--;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    errno = ENOMEM;
    return fails() ? NULL : __real_calloc(n, size);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

/* A fuzzer has no jail. */
void corral_jail_enter_or_end(enum corral_jail_kind kind)
{
    (void)kind;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*body)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*body)(void *), void *argument)
{
    return fails() ? EAGAIN : __real_pthread_create(thread, how, body, argument);
}

/* --- the machine --- */

struct queue {
    uint16_t size, added, shown;
    uint16_t next_descriptor;
    int kick_fd;
};

struct guest {
    uint8_t *memory;
    struct corral_ram ram;
    struct corral_virtio_irq irq;
    struct corral_blk_config config;
    struct corral_blk *blk;
    uint64_t features;
    struct queue queues[QUEUES];
    bool lawful;                    /* the input has kept to the rules since the last start */
    uint32_t data;                  /* the first byte of memory that no request has */
    uint32_t status_at[MOST_STEPS]; /* of the requests since then */
    unsigned n_requests;
    pthread_t racer;
    bool racing, race_over;
    uint64_t race_seed;
};

static uint8_t *memory;
static int image_fd, direct_fd, layer_fd, irq_fd, broken_fd, record_fd, kick_fds[QUEUES];
static uint32_t direct_block = 512;

static unsigned count_open(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static uint8_t pattern[IMAGE] __attribute__((aligned(4096))), canaries[RAM];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
    memset(canaries, CANARY, RAM);
    for (unsigned i = 0; i < IMAGE; i++)
        pattern[i] = i * 131 >> 3;
    /* A page that faults on either side. */
    memory = mmap(NULL, RAM + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED);
    memory += 4096;
    require(!mprotect(memory, RAM, PROT_READ | PROT_WRITE));
    image_fd = memfd_create("image", MFD_CLOEXEC);
    layer_fd = memfd_create("layer", MFD_CLOEXEC);
    direct_fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT,
                     0600); /* -1: that file system has none, and inputs do without */
    if (direct_fd >= 0 && (ftruncate(direct_fd, IMAGE) || pread(direct_fd, pattern, 512, 0) < 0))
        direct_block = 4096;
    irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    broken_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    record_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (unsigned i = 0; i < QUEUES; i++)
        kick_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    require(image_fd >= 0 && layer_fd >= 0 && irq_fd >= 0 && broken_fd >= 0 && record_fd >= 0);
    return 0;
}

static void fill_image(int fd)
{
    require(!ftruncate(fd, 0) && !ftruncate(fd, IMAGE));
    require(pwrite(fd, pattern, IMAGE, 0) == IMAGE);
}

static void check_image(const struct guest *g)
{
    static uint8_t bytes[IMAGE] __attribute__((aligned(4096)));
    struct stat status;
    require(!fstat(g->config.fd, &status) && status.st_size == IMAGE);
    if (!g->config.read_only && g->config.overlay_fd < 0)
        return;
    require(pread(g->config.fd, bytes, IMAGE, 0) == IMAGE);
    require(!memcmp(bytes, pattern, IMAGE));
}

static void configure(struct guest *g, struct input *in)
{
    static const int errors[] = {0, EIO, ENOSPC, EINTR, EAGAIN, EOPNOTSUPP};
    uint8_t flags = take(in, 1), more = take(in, 1);
    bool direct = flags & 32 && direct_fd >= 0;
    g->config = (struct corral_blk_config){
        .fd = direct ? direct_fd : image_fd,
        .overlay_fd = flags & 4 && !direct ? layer_fd : -1,
        .size = IMAGE,
        .block_size = direct       ? direct_block
                      : flags & 64 ? 4096
                                   : 512,
        .read_only = flags & 8,
        .write_through = flags & 16,
        .direct = direct,
        .id = "fuzzed",
        .worker = {.name = "fuzz", .broken_fd = more & 32 ? broken_fd : -1},
        .n_queues = 1 + (more & 1),
        .engine = (flags & 3) % 3,
        .n_threads = more >> 1 & 3,
        .ops_per_second = more & 8 ? 2000 : 0,
        .bytes_per_second = more & 16 ? 2u << 20 : 0,
        .fault_every = more & 64 ? 1 + take(in, 1) % 8 : 0,
        .record_fd = more & 128 ? record_fd : 0,
    };
    if (g->config.fault_every)
        g->config.fault_errno = errors[take(in, 1) % (sizeof errors / sizeof *errors)];
    fill_image(g->config.fd);
    if (g->config.overlay_fd >= 0)
        require(!ftruncate(layer_fd, 0) && !ftruncate(layer_fd, IMAGE));
}

static void reset_driver(struct guest *g)
{
    memcpy(g->memory, canaries, RAM);
    memset(g->memory + QUEUE_AT(0), 0, DATA_AT - QUEUE_AT(0));
    for (unsigned i = 0; i < QUEUES; i++)
        g->queues[i] = (struct queue){.size = QUEUE_SIZE, .kick_fd = kick_fds[i]};
    g->data = DATA_AT;
    g->n_requests = 0;
}

static uint16_t load(const struct guest *g, uint32_t at)
{
    return __atomic_load_n((uint16_t *)(g->memory + at), __ATOMIC_ACQUIRE);
}

static void store(struct guest *g, uint32_t at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(g->memory + at), value, __ATOMIC_SEQ_CST);
}

static void start(struct guest *g, struct input *in)
{
    struct corral_virtq_setup setups[QUEUES];
    uint8_t how = take(in, 1);
    reset_driver(g);
    g->lawful = true;
    g->features = 1ull << VIRTIO_F_VERSION_1 | (how & 1 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0) |
                  (how & 2 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0) |
                  (how & 4 ? 1ull << VIRTIO_BLK_F_FLUSH : 0) |
                  (how & 8 ? 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES : 0);
    for (unsigned i = 0; i < QUEUES; i++)
        setups[i] = (struct corral_virtq_setup){
            .size = QUEUE_SIZE, .ready = true, .desc = QUEUE_AT(i), .avail = AVAIL_AT(i), .used = USED_AT(i)};
    if (how & 16) { /* anywhere: over one another, over the data, outside of RAM */
        struct corral_virtq_setup *s = &setups[how >> 5 & 1];
        s->size = take(in, 2);
        s->ready = take(in, 1) & 1;
        s->desc = take(in, 3);
        s->avail = take(in, 3);
        s->used = take(in, 3) | (how & 128 ? UINT64_MAX << 16 : 0);
        g->lawful = false;
    }
    bool scarce = how & 64;
    until_failure = scarce ? take(in, 1) % 8 : UINT32_MAX;
    int result = corral_blk_start(g->blk, g->features, setups, kick_fds, NULL);
    until_failure = UINT32_MAX;
    bool short_of = scarce && result == -ENOMEM;
    require(!result || result == -EINVAL || result == -EFAULT || short_of);
    g->lawful &= !result;
    require(result || corral_blk_start(g->blk, g->features, setups, kick_fds, NULL) == -EBUSY);
}

/* --- what a driver does --- */

struct segment {
    uint32_t at, length;
    bool write;
};

static void describe(struct guest *g, uint32_t at, const struct segment *s, bool last, uint16_t next)
{
    struct vring_desc d = {
        .addr = s->at < LOW ? s->at : CORRAL_HIGH_BASE + s->at - LOW, .len = s->length, .next = last ? 0 : next};
    d.flags = (s->write ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT);
    memcpy(g->memory + at, &d, sizeof d);
}

/* Room for `length` bytes with a canary on either side; 0: there is none left. */
static uint32_t allocate(struct guest *g, uint32_t length)
{
    uint32_t at = g->data + 16;
    if (at < LOW && at + length > LOW)
        at = LOW;
    if (at + length + 16 > RAM)
        return 0;
    g->data = at + length;
    return at;
}

static void add(struct guest *g, struct input *in)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_FLUSH,
                                     VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    unsigned index = take(in, 1) % g->config.n_queues;
    struct queue *q = &g->queues[index];
    uint8_t kind = take(in, 1), how = take(in, 1);
    struct virtio_blk_outhdr header = {.type = kind < 200 ? types[kind % 6] : take(in, 4),
                                       .sector = take(in, 1) & (how & 4 ? 15 : 255)};
    uint32_t length = how & 1 ? take(in, 2) % 20000 : take(in, 1) % 9 * 512;
    if (how & 2)
        header.sector = take(in, 8);
    bool reads = header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID;
    bool ranges = header.type == VIRTIO_BLK_T_DISCARD || header.type == VIRTIO_BLK_T_WRITE_ZEROES;
    if (header.type == VIRTIO_BLK_T_GET_ID && !(how & 1))
        length = VIRTIO_BLK_ID_BYTES;
    if (ranges && !(how & 1))
        length = sizeof(struct virtio_blk_discard_write_zeroes) * (1 + how / 64);
    if (kind >= 200)
        reads = how & 4;
    uint32_t head_at = allocate(g, sizeof header), data_at = allocate(g, length), status_at = allocate(g, 1);
    unsigned parts = length ? 1 + (how >> 3 & 3) : 0;
    bool indirect = how & 32;
    unsigned n = parts + 2, slots = indirect ? 1 : n;
    if (!head_at || !data_at || !status_at ||
        (uint16_t)(q->added - load(g, USED_AT(index) + 2)) + 0u >= QUEUE_SIZE ||
        q->next_descriptor + slots > QUEUE_SIZE)
        return;
    memcpy(g->memory + head_at, &header, sizeof header);
    if (!reads) {
        for (uint32_t i = 0; i < length; i++)
            g->memory[data_at + i] = in->at < in->end ? *in->at : i;
        struct virtio_blk_discard_write_zeroes range;
        for (uint32_t i = 0; ranges && !(how & 1) && i < length; i += sizeof range) {
            range = (struct virtio_blk_discard_write_zeroes){
                .sector = take(in, 1), .num_sectors = take(in, 1), .flags = take(in, 1) & 3};
            memcpy(g->memory + data_at + i, &range, sizeof range);
        }
    }
    struct segment segments[6] = {{head_at, sizeof header, false}};
    for (unsigned i = 0; i < parts; i++)
        segments[1 + i] = (struct segment){data_at + length / parts * i, length / parts, reads};
    if (parts)
        segments[parts].length = length - length / parts * (parts - 1);
    segments[parts + 1] = (struct segment){status_at, 1, true};
    if (parts && !segments[1].length) { /* an empty segment breaks the queue */
        g->lawful = false;
    }
    uint16_t head = q->next_descriptor;
    q->next_descriptor += slots;
    uint32_t table = indirect ? TABLES_AT(index) + head * 16 * 6 : QUEUE_AT(index) + head * 16;
    for (unsigned i = 0; i < n; i++)
        describe(g, table + 16 * i, &segments[i], i == n - 1, (indirect ? 0 : head) + i + 1);
    if (indirect) {
        struct vring_desc d = {.addr = table, .len = n * 16, .flags = VRING_DESC_F_INDIRECT};
        memcpy(g->memory + QUEUE_AT(index) + head * 16, &d, sizeof d);
        if (!(g->features >> VIRTIO_RING_F_INDIRECT_DESC & 1))
            g->lawful = false;
    }
    store(g, AVAIL_AT(index) + 4 + 2 * (q->added++ % QUEUE_SIZE), head);
    g->status_at[g->n_requests++] = status_at;
}

static void kick(struct queue *q)
{
    eventfd_write(q->kick_fd, 1);
}

static void show(struct guest *g, unsigned index)
{
    struct queue *q = &g->queues[index];
    store(g, AVAIL_AT(index) + 2, q->added);
    q->shown = q->added;
    /* Always, and always wanting an interrupt: what a driver leaves out is what suppression is for. */
    store(g, AVAIL_AT(index) + 4 + 2 * QUEUE_SIZE, load(g, USED_AT(index) + 2));
    kick(q);
}

/* Waits until all that was shown is back; only where the rules were kept. */
static void wait_for_all(struct guest *g)
{
    for (unsigned i = 0; i < g->config.n_queues && g->lawful; i++) {
        unsigned patience = PATIENCE;
        while (load(g, USED_AT(i) + 2) != g->queues[i].shown) {
            require(!corral_blk_failed(g->blk));
            require(patience--);
            usleep(50);
        }
        g->queues[i].next_descriptor = g->queues[i].shown == g->queues[i].added ? 0 : g->queues[i].next_descriptor;
    }
}

static void check_requests(const struct guest *g)
{
    for (unsigned i = 0; i < g->config.n_queues; i++)
        if (g->queues[i].shown != g->queues[i].added)
            return; /* some were never shown */
    for (unsigned i = 0; i < g->n_requests; i++)
        require(g->memory[g->status_at[i]] <= VIRTIO_BLK_S_UNSUPP);
    /* Between the buffers there are sixteen bytes that are nobody's. */
    for (unsigned i = 0; i < g->n_requests; i++) {
        uint32_t end = g->status_at[i];
        require(!memcmp(g->memory + end - 16, canaries, 16) && !memcmp(g->memory + end + 1, canaries, 16));
    }
    require(!memcmp(g->memory + g->data, canaries, RAM - g->data));
}

static void *race(void *argument)
{
    struct guest *g = argument;
    uint64_t random = g->race_seed | 1;
    while (!__atomic_load_n(&g->race_over, __ATOMIC_RELAXED)) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t at = (random >> 33) % (random & 1 ? DATA_AT : RAM);
        __atomic_store_n(g->memory + at, (uint8_t)(random >> 24), __ATOMIC_RELAXED);
    }
    return NULL;
}

static void end_race(struct guest *g)
{
    if (!g->racing)
        return;
    __atomic_store_n(&g->race_over, true, __ATOMIC_RELAXED);
    pthread_join(g->racer, NULL);
    g->racing = g->race_over = false;
}

static void poke(struct guest *g, struct input *in)
{
    uint32_t at = below(in, 2) ? QUEUE_AT(0) + below(in, DATA_AT - QUEUE_AT(0)) : take(in, 3) % RAM;
    unsigned n = 1 + take(in, 1) % 16;
    g->lawful = false;
    for (unsigned i = 0; i < n && at + i < RAM; i++)
        __atomic_store_n(g->memory + at + i, (uint8_t)take(in, 1), __ATOMIC_RELAXED);
}

static void step(struct guest *g, struct input *in)
{
    struct corral_blk_stats stats;
    unsigned index = take(in, 1);
    uint32_t value;
    switch (index % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        add(g, in);
        break;
    case 5:
    case 6:
        show(g, index >> 4 & 1);
        break;
    case 7:
        wait_for_all(g);
        break;
    case 8:
        poke(g, in);
        break;
    case 9: /* an index from nowhere */
        g->lawful = false;
        store(g, AVAIL_AT(index >> 4 & 1) + 2, take(in, 2));
        kick(&g->queues[index >> 4 & 1]);
        break;
    case 10:
        end_race(g);
        require(!corral_blk_stop(g->blk));
        start(g, in);
        break;
    case 11:
        corral_blk_set_writeback(g->blk, index & 16);
        break;
    case 12:
        require(!corral_blk_stats(g->blk, 0, &stats) && corral_blk_stats(g->blk, 9, &stats) == -EINVAL);
        break;
    case 13:
        value = take(in, 4);
        corral_virtio_irq_access(&g->irq, index & 16, take(in, 1), index & 32 ? 4 : 2, &value);
        break;
    case 14:
        kick(&g->queues[index >> 4 & 1]);
        break;
    case 15:
        if (!g->racing) {
            g->lawful = false;
            g->race_seed = take(in, 8);
            g->racing = !pthread_create(&g->racer, NULL, race, g);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct guest g;
    unsigned open_files = count_open();
    struct input in = {data, data + size};
    g = (struct guest){.memory = memory,
                       .ram = {.host = memory, .low_end = LOW, .high_end = CORRAL_HIGH_BASE + RAM - LOW}};
    corral_virtio_irq_init(&g.irq, irq_fd);
    configure(&g, &in);
    until_failure = in.at < in.end && *in.at > 250 ? *in.at - 251 : UINT32_MAX;
    g.blk = corral_blk_create(&g.config, &g.ram, &g.irq);
    until_failure = UINT32_MAX;
    if (!g.blk) {
        require(errno == ENOSYS || errno == ENOMEM || errno == EAGAIN);
        require(count_open() == open_files);
        return 0;
    }
    struct corral_blk_config wrong = g.config;
    wrong.size++;
    require(!corral_blk_create(&wrong, &g.ram, &g.irq) && errno == EINVAL);
    start(&g, &in);
    for (unsigned i = 0; i < MOST_STEPS && in.at < in.end; i++)
        step(&g, &in);
    for (unsigned i = 0; i < g.config.n_queues && g.lawful; i++)
        show(&g, i);
    wait_for_all(&g);
    end_race(&g);
    require(!corral_blk_stop(g.blk));
    if (g.lawful)
        check_requests(&g);
    corral_blk_destroy(g.blk);
    check_image(&g);
    require(count_open() == open_files);
    return 0;
}
