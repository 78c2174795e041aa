/* One thread takes messages off the queue and sends them, another receives answers and gives buffers back: neither
 * can keep the other from going on, however little the server takes or gives at a time. */
#define _GNU_SOURCE
#include "p9.h"
#include "p9_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define R_LERROR_SIZE 11
#define T_FLUSH_SIZE 9
#define NO_TAG (-1)

/* A chain whose message the server has, and has not answered. */
struct pending {
    bool taken;
    uint16_t tag;
    int flushes; /* the tag that this message takes back, or NO_TAG */
    struct corral_chain chain;
};

struct corral_p9 {
    struct corral_queue_worker worker;
    struct corral_served_queue queue;
    uint64_t answered, refused; /* atomic */
    pthread_mutex_t lock;       /* of pending, server_gone and the used ring */
    bool server_gone;
    struct pending pending[CORRAL_P9_QUEUE_SIZE];
    struct corral_p9_line line;
};

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
    corral_virtq_push(&p->queue.vq, chain->head, written);
    corral_virtq_publish(&p->queue.vq);
    corral_worker_tell(&p->worker, &p->queue);
}

static void refuse(struct corral_p9 *p, const struct corral_chain *chain, uint16_t tag, int error)
{
    uint8_t answer[R_LERROR_SIZE] = {R_LERROR_SIZE, 0, 0, 0, CORRAL_P9_R_LERROR, tag & 0xff, tag >> 8, error};
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
    bool whole = size >= CORRAL_P9_HEADER && size <= sizeof p->line.out;
    /* What is looked at is what is sent: the guest may change its own copy meanwhile. */
    if (whole)
        gather(p->line.out, chain->iov, chain->n_read);
    uint16_t tag = whole ? corral_p9_get16(p->line.out + 5) : 0;
    int flushes = whole && p->line.out[4] == CORRAL_P9_T_FLUSH && size == T_FLUSH_SIZE
                      ? corral_p9_get16(p->line.out + CORRAL_P9_HEADER)
                      : NO_TAG;
    int error = !whole || corral_p9_get32(p->line.out) != size ? EINVAL : 0;

    pthread_mutex_lock(&p->lock);
    if (error)
        refuse(p, chain, tag, error);
    bool good = !error && expect_answer(p, chain, tag, flushes);
    pthread_mutex_unlock(&p->lock);

    /* A server that is gone is the receiver's to find, which answers whatever waits then. */
    if (good)
        corral_p9_line_send(&p->line, size);
}

static void serve_queue(void *argument)
{
    struct corral_p9 *p = argument;
    struct corral_chain chain;
    if (!corral_p9_line_greet(&p->line) && !corral_p9_line_is_gone(&p->line))
        return;
    while (!corral_worker_stopping(&p->worker)) {
        int got;
        while ((got = corral_virtq_pop(&p->queue.vq, &chain)) > 0 && !corral_worker_stopping(&p->worker))
            take(p, &chain);
        if (got < 0) {
            corral_worker_break(&p->worker);
            return;
        }
        if (!corral_virtq_listen(&p->queue.vq))
            corral_worker_wait(&p->worker, NULL, 0);
    }
}

/* --- from the server to the queue --- */

static void answer(struct corral_p9 *p, const uint8_t *in)
{
    struct pending *asked = find(p, corral_p9_get16(in + 5));
    if (!asked) /* it was taken back */
        return;
    __atomic_fetch_add(&p->answered, 1, __ATOMIC_RELAXED);
    struct pending *old = in[4] == CORRAL_P9_R_FLUSH && asked->flushes != NO_TAG ? find(p, asked->flushes) : NULL;
    /* Nobody answers what was taken back, but its buffers are the driver's again. */
    if (old) {
        old->taken = false;
        give_back(p, &old->chain, NULL, 0);
    }
    if (asked->taken) { /* a message may take itself back */
        asked->taken = false;
        give_back(p, &asked->chain, in, corral_p9_get32(in));
    }
}

static void serve_answers(void *argument)
{
    struct corral_p9 *p = argument;
    const uint8_t *in;
    while ((in = corral_p9_line_receive(&p->line)) && !corral_worker_stopping(&p->worker)) {
        pthread_mutex_lock(&p->lock);
        answer(p, in);
        pthread_mutex_unlock(&p->lock);
    }
    if (!corral_p9_line_is_gone(&p->line)) /* a stop */
        return;
    pthread_mutex_lock(&p->lock);
    p->server_gone = true;
    for (unsigned i = 0; i < CORRAL_P9_QUEUE_SIZE && !corral_worker_stopping(&p->worker); i++) {
        if (p->pending[i].taken)
            refuse(p, &p->pending[i].chain, p->pending[i].tag, EIO);
        p->pending[i].taken = false;
    }
    pthread_mutex_unlock(&p->lock);
}

/* --- life --- */

struct corral_p9 *corral_p9_create(const struct corral_worker_config *config, int server_fd,
                                   const struct corral_ram *ram, struct corral_virtio_irq *irq)
{
    struct corral_p9 *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    int error = corral_worker_init(&p->worker, CORRAL_JAIL_STREAM, config, ram, irq);
    p->line.stop_fd = -1;
    if (!error)
        error = corral_p9_line_init(&p->line, server_fd);
    if (!error)
        error = corral_worker_add_thread(&p->worker, "9p-receive", NULL, serve_answers, p);
    if (!error)
        error = corral_worker_add_thread(&p->worker, "9p-send", NULL, serve_queue, p);
    if (error < 0) {
        corral_p9_destroy(p);
        errno = -error;
        return NULL;
    }
    return p;
}

int corral_p9_start(struct corral_p9 *p, uint64_t features, const struct corral_virtq_setup *queues,
                    const int *doorbells)
{
    int error = corral_worker_begin(&p->worker, features);
    if (error)
        return error;
    if (!queues->ready)
        return -EINVAL;
    error = corral_worker_queue(&p->worker, &p->queue, queues, *doorbells);
    if (error < 0)
        return error;
    memset(p->pending, 0, sizeof p->pending);
    corral_p9_line_begin(&p->line);
    corral_worker_serve(&p->worker);
    return 0;
}

void corral_p9_request_stop(struct corral_p9 *p)
{
    if (!corral_worker_running(&p->worker))
        return;
    corral_worker_request_stop(&p->worker);
    corral_p9_line_stop(&p->line);
}

int corral_p9_stop(struct corral_p9 *p)
{
    corral_p9_request_stop(p);
    return corral_worker_stop(&p->worker);
}

int corral_p9_destroy(struct corral_p9 *p)
{
    if (!p)
        return 0;
    int error = corral_p9_stop(p);
    if (error)
        return error;
    corral_worker_destroy(&p->worker);
    corral_p9_line_destroy(&p->line);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return 0;
}

bool corral_p9_failed(const struct corral_p9 *p)
{
    return corral_worker_failed(&p->worker);
}

uint64_t corral_p9_answered(const struct corral_p9 *p)
{
    return __atomic_load_n(&p->answered, __ATOMIC_RELAXED);
}

uint64_t corral_p9_refused(const struct corral_p9 *p)
{
    return __atomic_load_n(&p->refused, __ATOMIC_RELAXED);
}
