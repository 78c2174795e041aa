/* The engine that runs everywhere: one thread takes requests off the queues, a few others make their calls. And
 * the engine that makes none, which is the first of these threads alone. */
#define _GNU_SOURCE
#include "blk_device.h"
#include "vector_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define CALLERS 4
#define CALLERS_MAX 64

struct pool {
    pthread_mutex_t lock; /* all below */
    pthread_cond_t work;
    struct corral_blk_request *first, **last;
    bool quit; /* when there is nothing more to do: the dispatcher takes no more */
};

/* --- the callers --- */

static int64_t make(struct corral_blk *b, const struct corral_blk_call *c)
{
    int fd = b->files[c->file];
    int64_t result = -1;
    switch (c->op) {
    case CORRAL_BLK_READ:
        result = corral_readv(fd, c->iov, c->n_iov, c->offset);
        break;
    case CORRAL_BLK_WRITE:
        result = corral_writev(fd, c->iov, c->n_iov, c->offset, c->flags);
        break;
    case CORRAL_BLK_SYNC:
        result = fdatasync(fd);
        break;
    case CORRAL_BLK_ALLOCATE:
        result = fallocate(fd, c->flags, c->offset, c->length);
        break;
    }
    return result < 0 ? -errno : result;
}

static void finish(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_blk_queue *q = r->queue;
    uint64_t now = corral_worker_now();
    pthread_mutex_lock(&q->lock);
    corral_blk_finish(r, now);
    corral_blk_publish(q);
    corral_blk_tell(b, q);
    pthread_mutex_unlock(&q->lock);
}

static void go_on(struct corral_blk *b, struct corral_blk_request *r)
{
    for (;;) {
        switch (corral_blk_step(b, r)) {
        case CORRAL_BLK_DONE:
            finish(b, r);
            return;
        case CORRAL_BLK_PARKED:
            return;
        case CORRAL_BLK_CALL:;
            int64_t result = corral_blk_before_call(b, r);
            if (!result)
                result = make(b, &r->call);
            corral_blk_measure(b);
            corral_blk_result(b, r, result);
        }
    }
}

static void call_in_turn(void *argument)
{
    struct corral_blk *b = argument;
    struct pool *p = b->engine_state;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct corral_blk_request *r = p->first;
        if (!r && p->quit)
            break;
        if (!r) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        p->first = r->next;
        if (!p->first)
            p->last = &p->first;
        pthread_mutex_unlock(&p->lock);
        go_on(b, r);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static void pool_submit(struct corral_blk *b, struct corral_blk_request *r)
{
    struct pool *p = b->engine_state;
    pthread_mutex_lock(&p->lock);
    r->next = NULL;
    *p->last = r;
    p->last = &r->next;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

/* --- the dispatcher --- */

/* Takes what queue q has, as far as the limits let it. False: there was nothing. */
static bool drain(struct corral_blk *b, struct corral_blk_queue *q)
{
    struct corral_blk_request *r;
    uint64_t now = corral_worker_now();
    unsigned n = 0;
    while (n < q->served.vq.size && !corral_blk_held_back(b, now) && corral_blk_take(b, q, now, &r) > 0) {
        n++;
        if (!b->shared) {
            corral_blk_finish(r, now);
            continue;
        }
        pool_submit(b, r);
    }
    if (!b->shared) {
        corral_blk_publish(q);
        corral_blk_tell(b, q);
    }
    q->stats.rounds += n != 0;
    return n;
}

/* The callers end after it, when all requests are finished: one that is parked is submitted again by a caller,
 * before that one looks for more to do. */
static void dispatch(void *argument)
{
    struct corral_blk *b = argument;
    struct pool *p = b->engine_state;
    while (!corral_worker_stopping(&b->worker)) {
        bool some = false;
        for (unsigned i = 0; i < b->config.n_queues; i++) {
            struct corral_blk_queue *q = &b->queues[i];
            if (!q->served.ready || q->served.vq.broken)
                continue;
            corral_virtq_ignore(&q->served.vq);
            some |= drain(b, q);
        }
        uint64_t held_back = corral_blk_held_back(b, corral_worker_now());
        if (held_back) /* until then doorbells are no news */
            corral_worker_sleep(&b->worker, held_back);
        else if (!some && !corral_blk_listen(b))
            corral_worker_wait(&b->worker, NULL, 0);
    }
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
}

/* --- life --- */

static int create(struct corral_blk *b, unsigned n_callers)
{
    struct pool *p = b->engine_state = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    b->shared = n_callers;
    int error = corral_worker_add_thread(&b->worker, NULL, NULL, dispatch, b);
    for (unsigned i = 0; i < n_callers && !error; i++)
        error = corral_worker_add_thread(&b->worker, NULL, NULL, call_in_turn, b);
    return error;
}

static int create_pool(struct corral_blk *b)
{
    unsigned n = b->config.n_threads ? b->config.n_threads : CALLERS;
    return create(b, n < CALLERS_MAX ? n : CALLERS_MAX);
}

static int create_null(struct corral_blk *b)
{
    return create(b, 0);
}

static void destroy(struct corral_blk *b)
{
    struct pool *p = b->engine_state;
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    free(p);
}

static void start(struct corral_blk *b)
{
    struct pool *p = b->engine_state;
    p->first = NULL;
    p->last = &p->first;
    p->quit = false;
}

const struct corral_blk_engine corral_blk_threads = {create_pool, destroy, start, pool_submit};
const struct corral_blk_engine corral_blk_null = {create_null, destroy, start, pool_submit};
