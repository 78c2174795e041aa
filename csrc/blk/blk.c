/* A disk's life: made, started, stopped, taken apart. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_valid(const struct corral_blk_config *c)
{
    bool block_size_ok = c->block_size >= 512 && c->block_size <= 4096 && !(c->block_size & (c->block_size - 1));
    bool layers_ok = c->overlay_fd < 0 ? !c->layer_map : !c->direct;
    return c->size % 512 == 0 && block_size_ok && layers_ok && c->n_queues &&
           c->n_queues <= CORRAL_VIRTIO_QUEUES_MAX && c->engine <= CORRAL_BLK_NULL && c->fault_errno >= 0;
}

static int open_backend(struct corral_blk *b)
{
    static const struct corral_blk_engine *const engines[] = {&corral_blk_uring, &corral_blk_threads,
                                                              &corral_blk_null};
    const struct corral_blk_config *c = &b->config;
    b->engine = engines[c->engine];
    if (c->overlay_fd >= 0) {
        b->overlay = corral_overlay_create(c);
        b->room = b->overlay ? corral_blk_room_create(c) : NULL;
        if (!b->room)
            return -errno;
    }
    struct stat image;
    b->resizable = !fstat(c->fd, &image) && S_ISREG(image.st_mode);
    return b->engine->create ? b->engine->create(b) : -ENOSYS;
}

struct corral_blk *corral_blk_create(const struct corral_blk_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq)
{
    if (!is_valid(config)) {
        errno = EINVAL;
        return NULL;
    }
    struct corral_blk *b = calloc(1, sizeof *b + config->n_queues * sizeof b->queues[0]);
    if (!b)
        return NULL;
    b->config = *config;
    if (!config->queue_size)
        b->config.queue_size = CORRAL_VIRTQ_SIZE_MAX;
    b->files[CORRAL_BLK_IMAGE] = config->fd;
    b->files[CORRAL_BLK_OVERLAY] = config->overlay_fd;
    b->files[CORRAL_BLK_LAYER] = config->layer_map ? config->layer_fd : -1;
    b->writeback = true;
    b->ops.rate = config->ops_per_second;
    b->bytes.rate = config->bytes_per_second;
    for (unsigned i = 0; i < config->n_queues; i++) {
        b->queues[i].blk = b;
        pthread_mutex_init(&b->queues[i].lock, NULL);
    }
    int error = corral_worker_init(&b->worker, CORRAL_JAIL_DISK, &config->worker, ram, irq);
    if (!error)
        error = open_backend(b);
    b->config.layer_map = NULL; /* it is the caller's again */
    if (error < 0) {
        corral_blk_destroy(b);
        errno = -error;
        return NULL;
    }
    return b;
}

bool corral_blk_listen(struct corral_blk *b)
{
    bool more = false;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        struct corral_blk_queue *q = &b->queues[i];
        if (q->served.ready && !q->served.vq.broken)
            more |= corral_virtq_listen(&q->served.vq);
    }
    return more;
}

static void free_requests(struct corral_blk *b)
{
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        free(b->queues[i].requests);
        b->queues[i].requests = b->queues[i].free = NULL;
        b->queues[i].served.ready = false;
    }
}

static int prepare_queue(struct corral_blk *b, struct corral_blk_queue *q, const struct corral_virtq_setup *s,
                         int doorbell)
{
    int error = s->ready && s->size > b->config.queue_size
                    ? -EINVAL
                    : corral_worker_queue(&b->worker, &q->served, s, doorbell);
    if (error < 0 || !s->ready)
        return error;
    /* One more than can be in flight: one to look for a chain with. Memory that is never used is never touched. */
    unsigned n = s->size + 1u;
    q->requests = calloc(n, sizeof *q->requests);
    if (!q->requests)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        q->requests[i].queue = q;
        q->requests[i].next = i + 1 < n ? &q->requests[i + 1] : NULL;
    }
    q->free = q->requests;
    return 0;
}

static void restore(struct corral_blk *b, const struct corral_blk_saved *saved)
{
    b->writeback = !saved->write_through;
    b->sync_lost = saved->sync_lost;
    b->shrunk = saved->shrunk;
    corral_worker_resume(&b->worker);
}

void corral_blk_save(const struct corral_blk *b, struct corral_blk_saved *saved)
{
    *saved = (struct corral_blk_saved){!b->writeback, b->sync_lost, b->shrunk};
}

int corral_blk_start(struct corral_blk *b, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, const struct corral_blk_saved *saved)
{
    if (saved && (saved->write_through | saved->sync_lost | saved->shrunk) > 1)
        return -EINVAL;
    int error = corral_worker_begin(&b->worker, features);
    if (error)
        return error;
    for (unsigned i = 0; i < b->config.n_queues && !error; i++)
        error = prepare_queue(b, &b->queues[i], &queues[i], doorbells[i]);
    if (error) {
        free_requests(b);
        return error;
    }
    if (saved)
        restore(b, saved);
    b->engine->start(b);
    corral_worker_serve(&b->worker);
    return 0;
}

void corral_blk_request_stop(struct corral_blk *b)
{
    corral_worker_request_stop(&b->worker);
}

int corral_blk_hold(struct corral_blk *b)
{
    return corral_worker_hold(&b->worker);
}

int corral_blk_stop(struct corral_blk *b)
{
    int error = corral_worker_stop(&b->worker);
    if (!error)
        free_requests(b);
    return error;
}

int corral_blk_destroy(struct corral_blk *b)
{
    if (!b)
        return 0;
    int error = corral_blk_stop(b);
    if (error)
        return error;
    corral_worker_destroy(&b->worker); /* its threads use all else */
    if (b->engine_state)
        b->engine->destroy(b);
    corral_overlay_destroy(b->overlay);
    corral_blk_room_destroy(b->room);
    for (unsigned i = 0; i < b->config.n_queues; i++)
        pthread_mutex_destroy(&b->queues[i].lock);
    free(b);
    return 0;
}

bool corral_blk_failed(const struct corral_blk *b)
{
    return corral_worker_failed(&b->worker);
}

int corral_blk_set_writeback(struct corral_blk *b, bool on)
{
    __atomic_store_n(&b->writeback, on, __ATOMIC_SEQ_CST);
    if (on || b->overlay)
        return 0;
    if (fdatasync(b->config.fd) < 0) {
        __atomic_store_n(&b->sync_lost, true, __ATOMIC_SEQ_CST);
        return -errno;
    }
    return 0;
}

void corral_blk_trouble(const struct corral_blk *b, struct corral_blk_trouble *trouble)
{
    uint64_t first = __atomic_load_n(&b->trouble, __ATOMIC_RELAXED);
    *trouble = (struct corral_blk_trouble){
        .error = (uint32_t)first,
        .file = first >> 32,
        .overlay_full = b->room && corral_blk_room_is_full(b->room),
        .shrunk = __atomic_load_n(&b->shrunk, __ATOMIC_SEQ_CST),
    };
}

int corral_blk_stats(const struct corral_blk *b, unsigned index, struct corral_blk_stats *stats)
{
    if (index >= b->config.n_queues)
        return -EINVAL;
    /* Word by word while others count: each counter is right, their sum may be a request apart. */
    const uint64_t *from = (const uint64_t *)&b->queues[index].stats;
    uint64_t *to = (uint64_t *)stats;
    for (size_t i = 0; i < sizeof *stats / sizeof *to; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    return 0;
}
