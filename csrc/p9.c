/* One thread takes messages off the queue and sends them, another receives answers and gives buffers back: neither
 * can keep the other from going on, however little the server takes or gives at a time. */
#define _GNU_SOURCE
#include "p9.h"
#include "vcpu.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* size[4] type[1] tag[2], little-endian, begin every message; size counts them too. */
#define HEADER 7
#define R_LERROR 7 /* size[4] type[1] tag[2] ecode[4] */
#define R_LERROR_SIZE 11
#define T_FLUSH 108 /* size[4] type[1] tag[2] oldtag[2] */
#define T_FLUSH_SIZE 9
#define R_FLUSH 109

#define NO_TAG (-1)

/* What only looks. A message that is not here changes something, or is one that nobody has told us of. */
enum {
    T_STATFS = 8,
    T_LOPEN = 12, /* size[4] type[1] tag[2] fid[4] flags[4] */
    T_READLINK = 22,
    T_GETATTR = 24,
    T_XATTRWALK = 30,
    T_READDIR = 40,
    T_FSYNC = 50,
    T_GETLOCK = 54,
    T_VERSION = 100,
    T_ATTACH = 104,
    T_WALK = 110,
    T_READ = 116,
    T_CLUNK = 120
};
#define T_LOPEN_FLAGS 11
/* Flags of 9P2000.L's open that go with looking: NONBLOCK, DIRECT, LARGEFILE, DIRECTORY, NOFOLLOW, NOATIME,
 * CLOEXEC. They are Linux's by value. */
#define FLAGS_THAT_LOOK 03744000u

/* A chain whose message the server has, and has not answered. */
struct pending {
    bool taken;
    uint16_t tag;
    int flushes; /* the tag that this message takes back, or NO_TAG */
    struct corral_chain chain;
};

struct corral_p9 {
    const struct corral_ram *ram;
    struct corral_virtio_irq *irq;
    struct corral_virtq queue;
    int kick_fd, server_fd;
    pthread_t sender, receiver;
    bool read_only;
    bool running;
    bool stopping;              /* atomic */
    bool failed;                /* atomic */
    uint64_t answered, refused; /* atomic */
    pthread_mutex_t lock;       /* of pending, server_gone and the used ring */
    bool server_gone;
    struct pending pending[CORRAL_P9_QUEUE_SIZE];
    uint8_t out[CORRAL_P9_MESSAGE_MAX]; /* the sender's */
    uint8_t in[CORRAL_P9_MESSAGE_MAX];  /* the receiver's */
};

static uint16_t get16(const uint8_t *at)
{
    return at[0] | at[1] << 8;
}

static uint32_t get32(const uint8_t *at)
{
    return get16(at) | (uint32_t)get16(at + 2) << 16;
}

static void gather(uint8_t *to, const struct iovec *iov, unsigned n)
{
    for (; n; n--, iov++) {
        memcpy(to, iov->iov_base, iov->iov_len);
        to += iov->iov_len;
    }
}

/* --- giving chains back, under the lock --- */

static void give_back(struct corral_p9 *p, const struct corral_chain *chain, const uint8_t *answer, uint32_t size)
{
    const struct iovec *iov = chain->iov + chain->n_read;
    uint32_t written = 0;
    for (unsigned i = 0; i < chain->n_write && written < size; i++) {
        size_t part = iov[i].iov_len < size - written ? iov[i].iov_len : size - written;
        memcpy(iov[i].iov_base, answer + written, part);
        written += part;
    }
    corral_virtq_push(&p->queue, chain->head, written);
    corral_virtq_publish(&p->queue);
    if (corral_virtq_tell(&p->queue))
        corral_virtio_interrupt(p->irq, CORRAL_VIRTIO_USED);
}

static void refuse(struct corral_p9 *p, const struct corral_chain *chain, uint16_t tag, int error)
{
    uint8_t answer[R_LERROR_SIZE] = {R_LERROR_SIZE, 0, 0, 0, R_LERROR, tag & 0xff, tag >> 8, error};
    __atomic_fetch_add(&p->refused, 1, __ATOMIC_RELAXED);
    give_back(p, chain, answer, sizeof answer);
}

static struct pending *find(struct corral_p9 *p, int tag)
{
    for (unsigned i = 0; i < CORRAL_P9_QUEUE_SIZE; i++)
        if (p->pending[i].taken && p->pending[i].tag == tag)
            return &p->pending[i];
    return NULL;
}

/* --- from the queue to the server --- */

static bool only_looks(const uint8_t *message, uint64_t size)
{
    switch (message[4]) {
    case T_LOPEN:
        return size == T_LOPEN_FLAGS + 4 && !(get32(message + T_LOPEN_FLAGS) & ~FLAGS_THAT_LOOK);
    case T_STATFS:
    case T_READLINK:
    case T_GETATTR:
    case T_XATTRWALK:
    case T_READDIR:
    case T_FSYNC:
    case T_GETLOCK:
    case T_VERSION:
    case T_ATTACH:
    case T_FLUSH:
    case T_WALK:
    case T_READ:
    case T_CLUNK:
        return true;
    default:
        return false;
    }
}

/* Whether the message waits for an answer now, and may be sent. Its tag must be free: an answer is told by it. */
static bool expect_answer(struct corral_p9 *p, const struct corral_chain *chain, uint16_t tag, int flushes)
{
    struct pending *place = NULL;
    for (unsigned i = 0; i < CORRAL_P9_QUEUE_SIZE && !place; i++)
        if (!p->pending[i].taken)
            place = &p->pending[i];
    if (!place || p->server_gone || find(p, tag)) {
        refuse(p, chain, tag, p->server_gone ? EIO : EINVAL);
        return false;
    }
    place->taken = true;
    place->tag = tag;
    place->flushes = flushes;
    place->chain = *chain;
    return true;
}

static void take(struct corral_p9 *p, const struct corral_chain *chain)
{
    uint64_t size = chain->read_size;
    bool whole = size >= HEADER && size <= sizeof p->out;
    /* What is looked at is what is sent: the guest may change its own copy meanwhile. */
    if (whole)
        gather(p->out, chain->iov, chain->n_read);
    uint16_t tag = whole ? get16(p->out + 5) : 0;
    int flushes = whole && p->out[4] == T_FLUSH && size == T_FLUSH_SIZE ? get16(p->out + HEADER) : NO_TAG;
    int error = 0;
    if (!whole || get32(p->out) != size)
        error = EINVAL;
    else if (p->read_only && !only_looks(p->out, size))
        error = EROFS; /* told at once, whatever the server would make of it */

    pthread_mutex_lock(&p->lock);
    if (error)
        refuse(p, chain, tag, error);
    bool good = !error && expect_answer(p, chain, tag, flushes);
    pthread_mutex_unlock(&p->lock);

    /* A server that is gone is the receiver's to find, which answers whatever waits then. */
    for (uint64_t sent = 0; good && sent < size;) {
        ssize_t n = send(p->server_fd, p->out + sent, size - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return;
        sent += n > 0 ? n : 0;
    }
}

static void *serve_queue(void *argument)
{
    struct corral_p9 *p = argument;
    struct corral_chain chain;
    corral_name_thread("9p-send");
    while (!__atomic_load_n(&p->stopping, __ATOMIC_SEQ_CST)) {
        int got;
        while ((got = corral_virtq_pop(&p->queue, &chain)) > 0 && !__atomic_load_n(&p->stopping, __ATOMIC_SEQ_CST))
            take(p, &chain);
        if (got < 0) {
            __atomic_store_n(&p->failed, true, __ATOMIC_SEQ_CST);
            /* DEVICE_NEEDS_RESET goes with a configuration change notification (virtio 1.2, section 2.1.2). */
            corral_virtio_interrupt(p->irq, CORRAL_VIRTIO_CONFIG);
            return NULL;
        }
        if (corral_virtq_listen(&p->queue))
            continue;
        struct pollfd doorbell = {.fd = p->kick_fd, .events = POLLIN};
        eventfd_t count;
        poll(&doorbell, 1, -1);
        eventfd_read(p->kick_fd, &count);
    }
    return NULL;
}

/* --- from the server to the queue --- */

/* False: the server is gone. */
static bool receive(struct corral_p9 *p, uint8_t *to, uint32_t size)
{
    while (size) {
        ssize_t n = recv(p->server_fd, to, size, MSG_WAITALL);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        to += n > 0 ? n : 0;
        size -= n > 0 ? n : 0;
    }
    return true;
}

static void answer(struct corral_p9 *p, uint32_t size)
{
    struct pending *asked = find(p, get16(p->in + 5));
    if (!asked) /* it was taken back */
        return;
    __atomic_fetch_add(&p->answered, 1, __ATOMIC_RELAXED);
    struct pending *old = p->in[4] == R_FLUSH && asked->flushes != NO_TAG ? find(p, asked->flushes) : NULL;
    /* Nobody answers what was taken back, but its buffers are the driver's again. */
    if (old) {
        old->taken = false;
        give_back(p, &old->chain, NULL, 0);
    }
    if (asked->taken) { /* a message may take itself back */
        asked->taken = false;
        give_back(p, &asked->chain, p->in, size);
    }
}

static void *serve_answers(void *argument)
{
    struct corral_p9 *p = argument;
    corral_name_thread("9p-receive");
    for (;;) {
        if (!receive(p, p->in, HEADER))
            break;
        uint32_t size = get32(p->in);
        if (size < HEADER || size > sizeof p->in || !receive(p, p->in + HEADER, size - HEADER))
            break;
        pthread_mutex_lock(&p->lock);
        answer(p, size);
        pthread_mutex_unlock(&p->lock);
    }
    shutdown(p->server_fd, SHUT_RDWR);
    pthread_mutex_lock(&p->lock);
    p->server_gone = true;
    for (unsigned i = 0; i < CORRAL_P9_QUEUE_SIZE && !__atomic_load_n(&p->stopping, __ATOMIC_SEQ_CST); i++) {
        if (p->pending[i].taken)
            refuse(p, &p->pending[i].chain, p->pending[i].tag, EIO);
        p->pending[i].taken = false;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* --- life --- */

struct corral_p9 *corral_p9_create(const struct corral_ram *ram, struct corral_virtio_irq *irq)
{
    struct corral_p9 *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->ram = ram;
    p->irq = irq;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

int corral_p9_start(struct corral_p9 *p, uint64_t features, const struct corral_virtq_setup *queue, int kick_fd,
                    int server_fd, bool read_only, const uint64_t *cpus, unsigned n_words)
{
    if (p->running)
        return -EBUSY;
    if (!queue->ready)
        return -EINVAL;
    int error =
        corral_virtq_init(&p->queue, p->ram, queue->size, queue->desc, queue->avail, queue->used,
                          features >> VIRTIO_RING_F_EVENT_IDX & 1, features >> VIRTIO_RING_F_INDIRECT_DESC & 1);
    if (error < 0)
        return error;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (n_words)
        memcpy(&set, cpus, n_words * sizeof *cpus < sizeof set ? n_words * sizeof *cpus : sizeof set);
    p->kick_fd = kick_fd;
    p->server_fd = server_fd;
    p->read_only = read_only;
    p->stopping = p->failed = p->server_gone = false;
    memset(p->pending, 0, sizeof p->pending);
    error = corral_worker_start(&p->receiver, n_words ? &set : NULL, serve_answers, p);
    if (error < 0)
        return error;
    error = corral_worker_start(&p->sender, n_words ? &set : NULL, serve_queue, p);
    if (error < 0) {
        __atomic_store_n(&p->stopping, true, __ATOMIC_SEQ_CST);
        shutdown(server_fd, SHUT_RDWR);
        pthread_join(p->receiver, NULL);
        return error;
    }
    p->running = true;
    return 0;
}

void corral_p9_stop(struct corral_p9 *p)
{
    if (!p->running)
        return;
    __atomic_store_n(&p->stopping, true, __ATOMIC_SEQ_CST);
    shutdown(p->server_fd, SHUT_RDWR); /* ends the receiver, and a send that the server does not take */
    eventfd_write(p->kick_fd, 1);
    pthread_join(p->sender, NULL);
    pthread_join(p->receiver, NULL);
    p->running = false;
}

void corral_p9_destroy(struct corral_p9 *p)
{
    if (!p)
        return;
    corral_p9_stop(p);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

bool corral_p9_failed(const struct corral_p9 *p)
{
    return __atomic_load_n(&p->failed, __ATOMIC_SEQ_CST);
}

uint64_t corral_p9_answered(const struct corral_p9 *p)
{
    return __atomic_load_n(&p->answered, __ATOMIC_RELAXED);
}

uint64_t corral_p9_refused(const struct corral_p9 *p)
{
    return __atomic_load_n(&p->refused, __ATOMIC_RELAXED);
}
