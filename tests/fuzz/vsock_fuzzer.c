/* A guest, and programs of its host, that mean harm to a virtio-vsock: an input is a sequence of what they do.
 *
 * The device's rounds (vsock_take.c, vsock_look of vsock_host.c, vsock_give.c) run in this thread, so that an
 * input does the same each time; its connector is played here. After each round it checks that every packet to the
 * guest is whole and from the host, that no connection has more kept than its window, that what is kept of all is
 * what the chunks in use hold, and that each place of the table is free or in use. At the end no descriptor is
 * left. */
#define _GNU_SOURCE
#include "input.h"
#include "vsock_device.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RAM (1u << 19)
#define SIZE 16
#define QUEUE_AT(i) (0x1000u * ((i) + 1)) /* descriptors; the rings follow */
#define AVAIL 0x400u
#define USED 0x800u
#define DATA 0x10000u
#define MOST_STEPS 64
#define MOST 6 /* connections */
#define CLIENTS 4
#define CID 3

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

static struct corral_ram ram;
static struct corral_virtio_irq irq;
static struct corral_vsock *v;
static int irq_fd, doorbell, listener, connector[2], clients[CLIENTS];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static uint16_t seen_used;

static unsigned count_open(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    uint8_t *memory = mmap(NULL, RAM + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED && !mprotect(memory + 4096, RAM, PROT_READ | PROT_WRITE));
    ram = (struct corral_ram){.host = memory + 4096, .low_end = RAM};
    irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "corral-fuzz-%d", getpid());
    require(irq_fd >= 0 && doorbell >= 0 && !bind(listener, (void *)&address, sizeof address));
    require(!listen(listener, CLIENTS));
    return 0;
}

static void start(uint64_t features, bool resumes)
{
    struct corral_virtq_setup queues[CORRAL_VSOCK_QUEUES];
    const int doorbells[CORRAL_VSOCK_QUEUES] = {doorbell, doorbell, doorbell};
    memset(ram.host, 0, RAM);
    for (unsigned i = 0; i < CORRAL_VSOCK_QUEUES; i++)
        queues[i] = (struct corral_virtq_setup){SIZE, true, QUEUE_AT(i), QUEUE_AT(i) + AVAIL, QUEUE_AT(i) + USED};
    const struct corral_vsock_saved saved = {.next_port = v->next_port};
    require(corral_vsock_start(v, features, queues, doorbells, resumes ? &saved : NULL) == 0);
    seen_used = 0;
}

static void stop(void)
{
    corral_vsock_clear(v);
    require(corral_vsock_stop(v) == 0);
    require(v->stats.connections == 0 && v->chunks_kept == 0 && v->due_first == CORRAL_VSOCK_NONE);
}

/* --- the guest --- */

static void show(unsigned queue, uint16_t head)
{
    uint16_t *ring = (uint16_t *)(ram.host + QUEUE_AT(queue) + AVAIL);
    ring[2 + ring[1] % SIZE] = head;
    __atomic_store_n(&ring[1], ring[1] + 1, __ATOMIC_SEQ_CST);
}

static void describe(unsigned queue, unsigned index, uint64_t at, uint32_t size, unsigned flags, unsigned next)
{
    const struct vring_desc d = {.addr = at, .len = size, .flags = flags, .next = next};
    memcpy(ram.host + QUEUE_AT(queue) + sizeof d * index, &d, sizeof d);
}

static void give_buffers(struct input *in)
{
    static const uint32_t sizes[] = {44, 45, 300, 4140, 70000, 43, 1};
    for (unsigned n = 1 + take(in, 1) % 8; n; n--) {
        const unsigned index = n % SIZE;
        const uint32_t size = sizes[take(in, 1) % (sizeof sizes / sizeof *sizes)];
        const bool split = take(in, 1) & 1 && size > 44;
        describe(0, index, DATA + 0x20000, split ? 44 : size, VRING_DESC_F_WRITE | (split ? VRING_DESC_F_NEXT : 0),
                 8 + n % 8);
        if (split)
            describe(0, 8 + n % 8, DATA + 0x20000 + 44, size - 44, VRING_DESC_F_WRITE, 0);
        show(0, index);
    }
}

static void send_packet(struct input *in)
{
    static const uint32_t ports[] = {1, 2, 3, CORRAL_VSOCK_FIRST_PORT, CORRAL_VSOCK_FIRST_PORT + 1, UINT32_MAX};
    static const uint32_t numbers[] = {0, 1, 100, 4096, CORRAL_VSOCK_WINDOW, 0x80000000, UINT32_MAX};
    static const uint32_t sizes[] = {0, 1, 500, 4096, 60000, 100000};
    const uint8_t how = take(in, 1);
    const uint32_t size = sizes[take(in, 1) % 6];
    const struct virtio_vsock_hdr header = {
        .src_cid = htole64(how & 1 || how & 2 ? CID : take(in, 1)),
        .dst_cid = htole64(how & 4 || how & 8 ? CORRAL_VSOCK_HOST : take(in, 1)),
        .src_port = htole32(ports[take(in, 1) % 6]),
        .dst_port = htole32(ports[take(in, 1) % 6]),
        .len = htole32(how & 16 || how & 32 ? size : take(in, 4)),
        .type = htole16(how & 64 || how & 128 ? VIRTIO_VSOCK_TYPE_STREAM : take(in, 1)),
        .op = htole16(take(in, 1) % 9),
        .flags = htole32(take(in, 1) & 7),
        .buf_alloc = htole32(numbers[take(in, 1) % 7]),
        .fwd_cnt = htole32(numbers[take(in, 1) % 7])};
    memcpy(ram.host + DATA, &header, sizeof header);
    const unsigned cut = take(in, 1) % 60;
    describe(1, 0, DATA, cut && cut < sizeof header + size ? cut : sizeof header + size,
             cut && cut < sizeof header + size ? VRING_DESC_F_NEXT : 0, 1);
    describe(1, 1, DATA + cut, sizeof header + size - cut, 0, 0);
    show(1, 0);
}

static void put_noise(struct input *in)
{
    const uint64_t at = take(in, 1) & 1 ? QUEUE_AT(0) + take(in, 2) % 0x3000 : take(in, 3) % (RAM - 8);
    for (unsigned n = take(in, 1) % 8; n; n--)
        ram.host[at + n] = take(in, 1);
}

/* --- programs of the host, and the connector --- */

static void use_client(struct input *in)
{
    static const char *const said[] = {"CONNECT 1\n", "CONNECT 2\nmore",     "CONN", "ECT 3\n",
                                       "\n",          "CONNECT 4294967295\n"};
    static uint8_t bytes[65536];
    int *fd = &clients[take(in, 1) % CLIENTS];
    const uint8_t what = take(in, 1);
    if (*fd < 0) {
        *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(*fd, (void *)&address, sizeof address) < 0) {
            close(*fd);
            *fd = -1;
        }
        return;
    }
    switch (what % 6) {
    case 0:
        send(*fd, said[what / 6 % 6], strlen(said[what / 6 % 6]), MSG_NOSIGNAL);
        break;
    case 1:
        send(*fd, bytes, take(in, 2), MSG_NOSIGNAL);
        break;
    case 2:
        while (recv(*fd, bytes, sizeof bytes, 0) > 0 && what & 64)
            ;
        break;
    case 3:
        shutdown(*fd, what & 64 ? SHUT_RD : SHUT_WR);
        break;
    default:
        close(*fd);
        *fd = -1;
    }
}

static void answer(struct input *in)
{
    struct corral_vsock_question question;
    int *client = &clients[take(in, 1) % CLIENTS], pair[2];
    const uint8_t how = take(in, 1);
    if (recv(connector[1], &question, sizeof question, MSG_DONTWAIT) != sizeof question)
        return;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {&question, sizeof question};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    question.token += how & 1 ? 0 : take(in, 1);
    if (!(how & 2)) {
        require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
        memcpy(CMSG_DATA(&control.header), &pair[0], sizeof *pair);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int));
    }
    sendmsg(connector[1], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (!(how & 2)) {
        close(pair[0]);
        if (*client >= 0)
            close(*client);
        *client = pair[1];
    }
}

/* --- what must hold --- */

static unsigned chunks_of(const struct corral_vsock_connection *c)
{
    unsigned n = 0;
    for (uint32_t chunk = c->first; chunk != CORRAL_VSOCK_NONE && n <= CORRAL_VSOCK_CHUNKS; n++)
        chunk = v->chunk_next[chunk];
    return n;
}

static void check(bool lawful)
{
    unsigned used = 0, free_places = 0, chunks = 0;
    for (unsigned i = 0; i < MOST; i++) {
        const struct corral_vsock_connection *c = &v->connections[i];
        if (c->state == CORRAL_VSOCK_FREE)
            continue;
        used++;
        chunks += chunks_of(c);
        require(c->kept <= CORRAL_VSOCK_WINDOW && c->received - c->forwarded <= CORRAL_VSOCK_WINDOW);
        require(c->state != CORRAL_VSOCK_NAMING || c->fd >= 0);
    }
    for (uint32_t i = v->free; i != CORRAL_VSOCK_NONE && free_places <= MOST; i = v->connections[i].next)
        free_places++;
    require(used + free_places == MOST && v->stats.connections == used);
    require(chunks == v->chunks_kept && v->n_resets <= CORRAL_VSOCK_RESETS);
    const uint16_t *ring = (const uint16_t *)(ram.host + QUEUE_AT(0) + USED);
    for (; lawful && seen_used != ring[1]; seen_used++) {
        const struct vring_used_elem *element = (const void *)(ring + 2);
        require(element[seen_used % SIZE].len == 0 || element[seen_used % SIZE].len >= 44);
    }
    if (lawful && v->rx.vq.next_used) {
        const struct virtio_vsock_hdr *last = (const void *)(ram.host + DATA + 0x20000);
        require(le64toh(last->src_cid) == CORRAL_VSOCK_HOST || le64toh(last->src_cid) == 0);
        require(le16toh(last->op) <= VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    }
}

static void round_of_device(void)
{
    if (corral_worker_failed(&v->worker))
        return;
    for (unsigned i = 0; i < 3; i++) {
        corral_vsock_take(v);
        corral_vsock_look(v);
        corral_vsock_give(v);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    const unsigned before = count_open();
    bool lawful = true;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    require(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, connector));
    corral_virtio_irq_init(&irq, irq_fd);
    const struct corral_vsock_config config = {
        .worker = {.name = "fuzz", .broken_fd = -1},
        .cid = CID,
        .listener = listener,
        .connector = connector[0],
        .first = -1,
        .most = MOST,
    };
    v = corral_vsock_create(&config, &ram, &irq);
    require(v);
    start(take(&in, 1) & 1 ? 1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0, false);
    for (unsigned step = 0; step < MOST_STEPS && in.at < in.end; step++) {
        switch (take(&in, 1) % 10) {
        case 0:
        case 1:
            give_buffers(&in);
            break;
        case 2:
        case 3:
            send_packet(&in);
            break;
        case 4: /* the last packet again: what adds up, as bytes that are not read */
            for (unsigned n = take(&in, 1) % 16; n; n--) {
                show(1, 0);
                round_of_device();
                check(lawful);
            }
            break;
        case 5:
        case 6:
            use_client(&in);
            break;
        case 7:
            answer(&in);
            break;
        case 8:
            put_noise(&in);
            lawful = false;
            break;
        default:
            stop();
            start(0, take(&in, 1) & 1);
            lawful = true;
        }
        round_of_device();
        check(lawful);
    }
    stop();
    shutdown(connector[1], SHUT_RDWR);
    require(corral_vsock_destroy(v) == 0);
    close(connector[1]);
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i] >= 0)
            close(clients[i]);
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) /* of clients that were not served */
        close(fd);
    require(count_open() == before);
    return 0;
}
