#include "rng.h"
#include "limit.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

struct corral_rng {
    struct corral_queue_worker worker;
    struct corral_served_queue queue;
    struct corral_limit limit;
    struct corral_rng_stats stats; /* atomic, each */
};

/* Fills what the driver may see of a chain; returns how many bytes. */
static uint32_t fill(const struct corral_chain *chain)
{
    uint32_t done = 0;
    for (unsigned i = chain->n_read; i < chain->n_read + chain->n_write && done < CORRAL_RNG_MOST; i++) {
        size_t left = CORRAL_RNG_MOST - done, size = chain->iov[i].iov_len < left ? chain->iov[i].iov_len : left;
        ssize_t got = getrandom(chain->iov[i].iov_base, size, 0);
        if (got < 0) /* guest memory that is no more: what is filled so far is all there is */
            break;
        done += got;
        if ((size_t)got < size)
            break;
    }
    return done;
}

/* Serves what is there, as far as the rate allows. Returns how long it holds the rest back, in ns. */
static uint64_t serve_queue(struct corral_rng *r)
{
    struct corral_chain chain;
    uint64_t held_back;
    bool any = false;
    while (!(held_back = corral_limit_wait(&r->limit, corral_worker_now())) &&
           !corral_worker_stopping(&r->worker)) {
        int got = corral_virtq_pop(&r->queue.vq, &chain);
        if (got < 0)
            corral_worker_break(&r->worker);
        if (got <= 0)
            break;
        uint32_t size = fill(&chain);
        corral_limit_charge(&r->limit, corral_worker_now(), size > CORRAL_RNG_LEAST ? size : CORRAL_RNG_LEAST);
        corral_virtq_push(&r->queue.vq, chain.head, size);
        __atomic_fetch_add(&r->stats.buffers, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&r->stats.bytes, size, __ATOMIC_RELAXED);
        any = true;
    }
    if (any) {
        corral_virtq_publish(&r->queue.vq);
        corral_worker_tell(&r->worker, &r->queue);
    }
    return held_back;
}

static void serve(void *argument)
{
    struct corral_rng *r = argument;
    while (!corral_worker_stopping(&r->worker) && !corral_worker_failed(&r->worker)) {
        uint64_t held_back = serve_queue(r);
        if (held_back)
            corral_worker_sleep(&r->worker, held_back);
        else if (!corral_virtq_listen(&r->queue.vq))
            corral_worker_wait(&r->worker, NULL, 0);
    }
}

struct corral_rng *corral_rng_create(const struct corral_rng_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq)
{
    struct corral_rng *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->limit.rate = config->bytes_per_second;
    int error = corral_worker_init(&r->worker, CORRAL_JAIL_STREAM, &config->worker, ram, irq);
    if (!error)
        error = corral_worker_add_thread(&r->worker, NULL, NULL, serve, r);
    if (error < 0) {
        corral_rng_destroy(r);
        errno = -error;
        return NULL;
    }
    return r;
}

int corral_rng_start(struct corral_rng *r, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, bool resumes)
{
    int error = corral_worker_begin(&r->worker, features);
    if (!error && !queues->ready)
        error = -EINVAL;
    if (!error)
        error = corral_worker_queue(&r->worker, &r->queue, queues, *doorbells);
    if (!error && resumes)
        corral_worker_resume(&r->worker);
    if (!error)
        corral_worker_serve(&r->worker);
    return error;
}

void corral_rng_request_stop(struct corral_rng *r)
{
    corral_worker_request_stop(&r->worker);
}

int corral_rng_stop(struct corral_rng *r)
{
    return corral_worker_stop(&r->worker);
}

int corral_rng_destroy(struct corral_rng *r)
{
    int error = r ? corral_rng_stop(r) : 0;
    if (r && !error) {
        corral_worker_destroy(&r->worker);
        free(r);
    }
    return error;
}

bool corral_rng_failed(const struct corral_rng *r)
{
    return corral_worker_failed(&r->worker);
}

void corral_rng_stats(const struct corral_rng *r, struct corral_rng_stats *stats)
{
    stats->buffers = __atomic_load_n(&r->stats.buffers, __ATOMIC_RELAXED);
    stats->bytes = __atomic_load_n(&r->stats.bytes, __ATOMIC_RELAXED);
}
