/* A guest that means harm to a network card, and another end that does, by coverage: an input is a sequence of
 * steps.
 *
 * libFuzzer's harness over csrc/net*.c, in one thread: the device's own is never made, and its rounds are called
 * here. Beside the sanitizers, and a page behind RAM that faults, it checks that what leaves is whole frames
 * whatever the driver does, that no more chains come back than were given, and that a card which is reset serves
 * again. */
#define _GNU_SOURCE
#include "../../csrc/net/net_device.h"
#include "input.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RAM (1u << 18)
#define SIZE 16 /* of each queue */
#define MOST_STEPS 200
#define DATA 0x8000 /* where the guest's buffers lie */

static struct corral_ram ram = {.low_end = RAM};
static struct corral_virtio_irq irq;
static struct corral_net *card;
static int line; /* the other end, -1: closed */
static int doorbell;
static uint8_t seen[1 << 21]; /* of the stream that has left */
static size_t n_seen;
static bool filters;
static int dump;
static struct corral_net_filter filter;

int __wrap_corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                                    void (*serve)(void *), void *argument);
int __wrap_corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                                    void (*serve)(void *), void *argument)
{
    (void)w, (void)name, (void)prepare, (void)serve, (void)argument;
    return 0;
}

void corral_jail_enter_or_end(enum corral_jail_kind kind)
{
    (void)kind;
}

static uint64_t base(unsigned queue)
{
    return 0x1000 * (queue + 1);
}

static struct corral_virtq_setup setup(unsigned queue, bool ready)
{
    return (struct corral_virtq_setup){SIZE, ready, base(queue), base(queue) + 0x400, base(queue) + 0x800};
}

static void start(uint64_t features, bool control)
{
    struct corral_virtq_setup queues[CORRAL_NET_QUEUES];
    const int doorbells[CORRAL_NET_QUEUES] = {doorbell, doorbell, doorbell};
    memset(ram.host, 0, 0x4000);
    for (unsigned i = 0; i < CORRAL_NET_QUEUES; i++)
        queues[i] = setup(i, control || i != CORRAL_NET_CONTROL);
    require(corral_net_start(card, features, queues, doorbells, features & 1) == 0);
}

static uint64_t features(struct input *in)
{
    const uint64_t any = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |
                         1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_RING_F_EVENT_IDX |
                         1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE;
    return take(in, 4) & any;
}

static void put_descriptor(struct input *in)
{
    static const uint64_t places[] = {DATA, DATA + 0x1000, RAM - 16, RAM - 1, RAM, 0, UINT64_MAX - 8, 0x1000};
    static const uint32_t sizes[] = {12, 26, 64, 1526, 65562, 0, 11, 0x80000000};
    unsigned queue = take(in, 1) % CORRAL_NET_QUEUES, index = take(in, 1) % SIZE, which = take(in, 1);
    struct vring_desc d = {.addr = places[which & 7], .len = sizes[which >> 3 & 7]};
    d.flags = take(in, 1) & 7;
    d.next = take(in, 1) % (SIZE + 2);
    if (which & 64)
        d.len = take(in, 2);
    memcpy(ram.host + base(queue) + sizeof d * index, &d, sizeof d);
}

static void put_available(struct input *in)
{
    unsigned queue = take(in, 1) % CORRAL_NET_QUEUES, n = take(in, 1) % (SIZE + 2);
    uint16_t *ring = (uint16_t *)(ram.host + base(queue) + 0x400);
    for (unsigned i = 0; i < n; i++)
        ring[2 + (uint16_t)(ring[1] + i) % SIZE] = take(in, 1) % (SIZE + 1);
    ring[1] += n;
}

static void put_bytes(struct input *in)
{
    uint64_t at = DATA + take(in, 2) % (RAM - DATA - 64);
    for (unsigned n = take(in, 1) % 64; n; n--)
        ram.host[at++] = take(in, 1);
}

/* What begins a frame: a header of virtio-net, and headers of a packet, of which the input changes some bytes. */
static void put_packet(struct input *in)
{
    static const uint8_t ipv4[] = {0, 0, 0, 0,  0, 0, 0,  0,  0, 0, 0, 0, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64,
                                   6, 0, 0, 10, 0, 2, 15, 10, 9, 9, 9, 0, 7, 0, 80,   0, 0, 0,  0, 0, 0, 0, 0};
    static const uint8_t ipv6[] = {0, 0, 0,  0, 0,    0,    0, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, 0, 0,
                                   0, 0, 60, 0, 64,   0xfd, 0, 0, 0, 0, 0, 0, 0,    0,    0,    0, 0,
                                   0, 0, 0,  5, 0xfd, 0,    0, 0, 0, 0, 0, 0, 0,    0,    0,    0, 0,
                                   0, 0, 9,  6, 0,    0,    0, 0, 0, 0, 0, 0, 7,    0,    80};
    static const uint8_t question[] = {0, 9, 0, 53, 0, 60, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0};
    uint8_t which = take(in, 1);
    uint8_t *at = ram.host + (which & 1 ? DATA : DATA + 0x1000);
    struct virtio_net_hdr_v1 header = {.flags = which >> 1 & 1, .csum_start = 34, .csum_offset = 16};
    if (which & 4)
        header.gso_type = take(in, 1), header.gso_size = take(in, 2), header.csum_start = take(in, 2);
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    memcpy(at, which & 8 ? ipv6 : ipv4, which & 8 ? sizeof ipv6 : sizeof ipv4);
    if (which & 16) {
        static const uint8_t resolver[4] = {10, 0, 2, 3};
        at[23] = 17;
        memcpy(at + 30, resolver, sizeof resolver);
        memcpy(at + 34, question, sizeof question);
    }
    for (unsigned n = which >> 5; n; n--)
        at[12 + take(in, 1) % 60] = take(in, 1);
}

/* No packet to an address that is denied leaves, when the filter is on. */
static void check_packet(const uint8_t *frame, uint32_t size)
{
    static const uint8_t denied[4] = {10, 9, 9, 9}, type[2] = {8, 0};
    if (filters && size >= 34 && !memcmp(frame + 12, type, 2) && frame[14] == 0x45)
        require(memcmp(frame + 30, denied, 4));
}

/* What has left is frames, one behind the other; the last may be there in part. */
static void check_stream(void)
{
    size_t at = 0;
    while (at + 4 <= n_seen) {
        uint32_t size;
        memcpy(&size, seen + at, sizeof size);
        size = ntohl(size);
        require(size >= 14 && size <= CORRAL_NET_FRAME_MAX);
        if (at + 4 + size > n_seen)
            break;
        check_packet(seen + at + 4, size);
        at += 4 + size;
    }
    memmove(seen, seen + at, n_seen - at);
    n_seen -= at;
}

static void read_line(size_t most)
{
    ssize_t got = line < 0 ? 0
                           : recv(line, seen + n_seen, most < sizeof seen - n_seen ? most : sizeof seen - n_seen,
                                  MSG_DONTWAIT);
    n_seen += got > 0 ? got : 0;
    check_stream();
}

static void write_line(struct input *in)
{
    static uint8_t frame[4 + CORRAL_NET_FRAME_MAX];
    static const uint32_t sizes[] = {14, 60, 1514, CORRAL_NET_FRAME_MAX, 0, 13, CORRAL_NET_FRAME_MAX + 1, 4000};
    uint8_t which = take(in, 1);
    uint32_t size = which & 8 ? take(in, 2) : sizes[which & 7], length = htonl(size);
    memcpy(frame, &length, sizeof length);
    size_t whole = size > CORRAL_NET_FRAME_MAX ? 64 : sizeof length + size;
    if (which & 16) /* a part */
        whole = take(in, 2) % (whole + 1);
    if (line >= 0)
        send(line, frame, whole, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* 10.9.9.9 is denied, 10.0.0.0/8 has a port that is allowed, and a name of one letter may be asked for. */
static void make_filter(bool otherwise)
{
    filter = (struct corral_net_filter){.n_rules = 2, .n_names = 1, .otherwise = otherwise};
    struct corral_net_rule *deny = &filter.rules[0], *allow = &filter.rules[1];
    *deny = (struct corral_net_rule){.prefix = 128, .denies = true};
    *allow = (struct corral_net_rule){.prefix = 104, .first = 80, .last = 80};
    static const uint8_t address[16] = {[10] = 0xff, 0xff, 10, 9, 9, 9},
                         resolver[16] = {[10] = 0xff, 0xff, 10, 0, 2, 3};
    memcpy(deny->address, address, sizeof address);
    memcpy(allow->address, address, sizeof address);
    memcpy(filter.resolver, resolver, sizeof resolver);
    memcpy(filter.names[0], "\1a", 3);
}

static void check_queues(void)
{
    for (unsigned i = 0; i < CORRAL_NET_QUEUES; i++) {
        const struct corral_served_queue *q = &card->queue[i];
        require(!q->ready || corral_virtq_in_flight(&q->vq) <= SIZE);
    }
}

static void step(struct input *in)
{
    bool fails = corral_net_failed(card);
    switch (take(in, 1) % 14) {
    case 0:
    case 1:
        put_descriptor(in);
        break;
    case 2:
    case 3:
        put_available(in);
        break;
    case 4:
        put_bytes(in);
        break;
    case 11:
    case 12:
        put_packet(in);
        break;
    case 5:
    case 6:
        if (!fails)
            corral_net_send(card);
        break;
    case 7:
    case 8:
        write_line(in);
        if (!fails)
            corral_net_receive(card);
        break;
    case 9:
        if (!fails)
            corral_net_command(card);
        break;
    case 10:
        read_line(take(in, 2));
        break;
    default:
        if (take(in, 1) % 8 == 0 && line >= 0) {
            close(line);
            line = -1;
        }
        require(corral_net_stop(card) == 0);
        start(features(in), take(in, 1) & 1);
    }
    check_queues();
}

/* After all of that a plain frame leaves, if there is another end. */
static void check_that_it_serves(void)
{
    require(corral_net_stop(card) == 0);
    start(0, false);
    filters = false;
    card->filters = false;
    struct vring_desc d = {.addr = DATA, .len = CORRAL_NET_HEADER + 60};
    memset(ram.host + DATA, 0, d.len);
    memcpy(ram.host + base(CORRAL_NET_TX), &d, sizeof d);
    ((uint16_t *)(ram.host + base(CORRAL_NET_TX) + 0x400))[1] = 1;
    const uint16_t *used = (uint16_t *)(ram.host + base(CORRAL_NET_TX) + 0x800);
    for (unsigned i = 0; i < 1000 && (used[1] != 1 || card->rest_at < card->rest_end); i++) {
        read_line(sizeof seen);
        corral_net_send(card);
    }
    require(used[1] == 1);
    read_line(sizeof seen);
    require(line < 0 || !card->link || n_seen == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!ram.host) {
        ram.host = mmap(NULL, RAM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(ram.host != MAP_FAILED && mprotect(ram.host + RAM, 4096, PROT_NONE) == 0);
        doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        corral_virtio_irq_init(&irq, -1);
        dump = memfd_create("dump", MFD_CLOEXEC);
    }
    int pair[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    line = pair[0];
    n_seen = 0;
    struct input in = {data, data + size};
    uint8_t how = take(&in, 1);
    filters = how & 1;
    make_filter(how & 2);
    lseek(dump, 0, SEEK_SET);
    struct corral_net_config config = {.worker = {.name = "fuzz", .broken_fd = -1},
                                       .fd = pair[1],
                                       .dump_fd = how & 4 ? dump : -1,
                                       .filter = filters ? &filter : NULL,
                                       .trusted = size & 1};
    card = corral_net_create(&config, &ram, &irq);
    require(card);
    start(features(&in), true);
    for (unsigned i = 0; i < MOST_STEPS && in.at < in.end; i++)
        step(&in);
    check_that_it_serves();
    require(corral_net_destroy(card) == 0);
    close(pair[1]);
    if (line >= 0)
        close(line);
    return 0;
}
