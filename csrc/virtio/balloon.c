#include "balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u      /* bytes: of the balloon, whatever the host's are */
#define MOST_PAGES 4096 /* of one chain: Linux puts 256 into it */

enum { INFLATE, DEFLATE, REPORT };

struct corral_balloon {
    struct corral_queue_worker worker;
    struct corral_served_queue queue[CORRAL_BALLOON_QUEUES];
    struct corral_balloon_stats stats; /* atomic, each */
};

static void count(uint64_t *counter, uint64_t amount)
{
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

/* The host takes whole pages. What they hold next is anything: the driver was told of no poison. */
static bool give_up(uint8_t *at, uint64_t size)
{
    return (uintptr_t)at % PAGE == 0 && size % PAGE == 0 && madvise(at, size, MADV_DONTNEED) == 0;
}

static void report(struct corral_balloon *b, const struct corral_chain *chain)
{
    for (unsigned i = chain->n_read; i < (unsigned)chain->n_read + chain->n_write; i++) {
        if (give_up(chain->iov[i].iov_base, chain->iov[i].iov_len))
            count(&b->stats.reported_bytes, chain->iov[i].iov_len);
        else
            count(&b->stats.refused, 1);
    }
}

/* A chain has numbers of pages, 32 bits each, which may be split anywhere. */
static void inflate(struct corral_balloon *b, const struct corral_chain *chain, bool out)
{
    uint32_t page;
    unsigned have = 0, done = 0;
    for (unsigned i = 0; i < chain->n_read; i++) {
        const uint8_t *bytes = chain->iov[i].iov_base;
        for (size_t at = 0; at < chain->iov[i].iov_len && done < MOST_PAGES; at++) {
            ((uint8_t *)&page)[have++] = bytes[at];
            if (have < sizeof page)
                continue;
            have = 0;
            done++;
            uint8_t *memory = corral_ram_at(b->worker.ram, (uint64_t)page * PAGE, PAGE);
            if (memory && (out || give_up(memory, PAGE)))
                count(out ? &b->stats.deflated_pages : &b->stats.inflated_pages, 1);
            else
                count(&b->stats.refused, 1);
        }
    }
}

static bool serve_queue(struct corral_balloon *b, unsigned index)
{
    struct corral_served_queue *q = &b->queue[index];
    struct corral_chain chain;
    bool any = false;
    for (unsigned i = 0; q->ready && i < q->vq.size && !corral_worker_stopping(&b->worker); i++) {
        int got = corral_virtq_pop(&q->vq, &chain);
        if (got < 0)
            corral_worker_break(&b->worker);
        if (got <= 0)
            break;
        if (index == REPORT)
            report(b, &chain);
        else
            inflate(b, &chain, index == DEFLATE);
        corral_virtq_push(&q->vq, chain.head, 0);
        any = true;
    }
    if (any) {
        corral_virtq_publish(&q->vq);
        corral_worker_tell(&b->worker, q);
    }
    return any;
}

static void serve(void *argument)
{
    struct corral_balloon *b = argument;
    while (!corral_worker_stopping(&b->worker) && !corral_worker_failed(&b->worker)) {
        bool busy = false;
        for (unsigned i = 0; i < CORRAL_BALLOON_QUEUES; i++)
            busy |= serve_queue(b, i);
        for (unsigned i = 0; i < CORRAL_BALLOON_QUEUES && !busy; i++)
            busy |= b->queue[i].ready && corral_virtq_listen(&b->queue[i].vq);
        if (!busy)
            corral_worker_wait(&b->worker, NULL, 0);
    }
}

struct corral_balloon *corral_balloon_create(const struct corral_worker_config *config,
                                             const struct corral_ram *ram, struct corral_virtio_irq *irq)
{
    struct corral_balloon *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    int error = corral_worker_init(&b->worker, CORRAL_JAIL_STREAM, config, ram, irq);
    if (!error)
        error = corral_worker_add_thread(&b->worker, NULL, NULL, serve, b);
    if (error < 0) {
        corral_balloon_destroy(b);
        errno = -error;
        return NULL;
    }
    return b;
}

int corral_balloon_start(struct corral_balloon *b, uint64_t features, const struct corral_virtq_setup *queues,
                         const int *doorbells, bool resumes)
{
    int error = corral_worker_begin(&b->worker, features);
    for (unsigned i = 0; i < CORRAL_BALLOON_QUEUES && !error; i++)
        error = corral_worker_queue(&b->worker, &b->queue[i], &queues[i], doorbells[i]);
    if (error)
        return error;
    if (resumes)
        corral_worker_resume(&b->worker);
    corral_worker_serve(&b->worker);
    return 0;
}

void corral_balloon_request_stop(struct corral_balloon *b)
{
    corral_worker_request_stop(&b->worker);
}

int corral_balloon_stop(struct corral_balloon *b)
{
    return corral_worker_stop(&b->worker);
}

int corral_balloon_destroy(struct corral_balloon *b)
{
    int error = b ? corral_balloon_stop(b) : 0;
    if (b && !error) {
        corral_worker_destroy(&b->worker);
        free(b);
    }
    return error;
}

bool corral_balloon_failed(const struct corral_balloon *b)
{
    return corral_worker_failed(&b->worker);
}

void corral_balloon_stats(const struct corral_balloon *b, struct corral_balloon_stats *stats)
{
    stats->reported_bytes = __atomic_load_n(&b->stats.reported_bytes, __ATOMIC_RELAXED);
    stats->inflated_pages = __atomic_load_n(&b->stats.inflated_pages, __ATOMIC_RELAXED);
    stats->deflated_pages = __atomic_load_n(&b->stats.deflated_pages, __ATOMIC_RELAXED);
    stats->refused = __atomic_load_n(&b->stats.refused, __ATOMIC_RELAXED);
}
