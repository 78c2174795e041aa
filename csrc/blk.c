/* A disk's life: made, started, stopped, taken apart. */
#define _GNU_SOURCE
#include "blk_device.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_valid(const struct corral_blk_config *c)
{
    bool block_size_ok = c->block_size >= 512 && c->block_size <= 4096 && !(c->block_size & (c->block_size - 1));
    bool layers_ok = c->overlay_fd < 0 || !c->direct;
    return c->size % 512 == 0 && block_size_ok && layers_ok && c->n_queues &&
           c->n_queues <= CORRAL_BLK_QUEUES_MAX && c->engine <= CORRAL_BLK_NULL && c->fault_errno >= 0;
}

static int prepare(struct corral_blk *b)
{
    static const struct corral_blk_engine *const engines[] = {&corral_blk_uring, &corral_blk_threads,
                                                              &corral_blk_null};
    const struct corral_blk_config *c = &b->config;
    b->engine = engines[c->engine];
    if (c->engine == CORRAL_BLK_URING && corral_blk_uring_probe() < 0)
        return -ENOSYS;
    if (c->overlay_fd >= 0) {
        b->overlay = corral_overlay_create(c->overlay_fd, c->size);
        if (!b->overlay)
            return -errno;
    }
    struct stat image;
    b->resizable = !fstat(c->fd, &image) && S_ISREG(image.st_mode);
    b->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return b->stop_fd < 0 ? -errno : 0;
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
    b->ram = ram;
    b->irq = irq;
    b->files[CORRAL_BLK_IMAGE] = config->fd;
    b->files[CORRAL_BLK_OVERLAY] = config->overlay_fd;
    b->writeback = true;
    b->ops.rate = config->ops_per_second;
    b->bytes.rate = config->bytes_per_second;
    b->stop_fd = -1;
    for (unsigned i = 0; i < config->n_queues; i++) {
        b->queues[i].blk = b;
        pthread_mutex_init(&b->queues[i].lock, NULL);
    }
    int error = prepare(b);
    if (error < 0) {
        corral_blk_destroy(b);
        errno = -error;
        return NULL;
    }
    return b;
}

bool corral_blk_cpus(const struct corral_blk *b, cpu_set_t *cpus)
{
    _Static_assert(sizeof b->config.cpus == sizeof *cpus, "a bit for each CPU that the C library knows");
    memcpy(cpus, b->config.cpus, sizeof *cpus);
    return CPU_COUNT(cpus);
}

int corral_blk_thread(const struct corral_blk *b, pthread_t *thread, void *(*body)(void *), void *argument)
{
    cpu_set_t cpus;
    return corral_worker_start(thread, corral_blk_cpus(b, &cpus) ? &cpus : NULL, body, argument);
}

bool corral_blk_stopping(const struct corral_blk *b)
{
    return __atomic_load_n(&b->stopping, __ATOMIC_SEQ_CST);
}

bool corral_blk_listen(struct corral_blk *b)
{
    bool more = false;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        struct corral_blk_queue *q = &b->queues[i];
        if (q->ready && !q->vq.broken)
            more |= corral_virtq_listen(&q->vq);
    }
    return more;
}

static void free_requests(struct corral_blk *b)
{
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        free(b->queues[i].requests);
        b->queues[i].requests = b->queues[i].free = NULL;
        b->queues[i].ready = false;
    }
}

static int prepare_queue(struct corral_blk *b, struct corral_blk_queue *q, const struct corral_virtq_setup *s,
                         int kick_fd)
{
    int error = corral_virtq_init(&q->vq, b->ram, s->size, s->desc, s->avail, s->used,
                                  b->features >> VIRTIO_RING_F_EVENT_IDX & 1,
                                  b->features >> VIRTIO_RING_F_INDIRECT_DESC & 1);
    if (error < 0)
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
    q->kick_fd = kick_fd;
    q->ready = true;
    return 0;
}

int corral_blk_start(struct corral_blk *b, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *kick_fds)
{
    if (b->running)
        return -EBUSY;
    b->features = features;
    b->failed = b->stopping = false;
    int error = 0;
    for (unsigned i = 0; i < b->config.n_queues && !error; i++)
        if (queues[i].ready)
            error = prepare_queue(b, &b->queues[i], &queues[i], kick_fds[i]);
    eventfd_t ignored;
    eventfd_read(b->stop_fd, &ignored); /* of the last stop */
    if (!error)
        error = b->engine->start(b);
    if (error)
        free_requests(b);
    b->running = !error;
    return error;
}

int corral_blk_stop(struct corral_blk *b)
{
    if (!b->running)
        return 0;
    __atomic_store_n(&b->stopping, true, __ATOMIC_SEQ_CST);
    eventfd_write(b->stop_fd, 1);
    b->engine->stop(b);
    free_requests(b);
    b->running = false;
    return 0;
}

void corral_blk_destroy(struct corral_blk *b)
{
    if (!b)
        return;
    corral_blk_stop(b);
    corral_overlay_destroy(b->overlay);
    for (unsigned i = 0; i < b->config.n_queues; i++)
        pthread_mutex_destroy(&b->queues[i].lock);
    if (b->stop_fd >= 0)
        close(b->stop_fd);
    free(b);
}

bool corral_blk_failed(const struct corral_blk *b)
{
    return __atomic_load_n(&b->failed, __ATOMIC_SEQ_CST);
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
