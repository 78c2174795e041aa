#include "net_device.h"
#include "net_dump.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

void corral_net_lose_link(struct corral_net *n)
{
    __atomic_store_n(&n->link, false, __ATOMIC_SEQ_CST);
    n->stage_at = n->stage_end = n->rest_at = n->rest_end = 0;
    corral_virtq_put_back(&n->queue[CORRAL_NET_RX].vq, n->placed.n);
    n->placed.n = n->placed.size = 0;
    n->starved = false;
    corral_virtio_irq_config(n->worker.irq);
}

void corral_net_passed(struct corral_net *n, bool sent, const struct iovec *iov, unsigned n_iov, size_t skip)
{
    n->dumps = n->dumps && corral_net_dump(n->config.dump_fd, &n->dump_left, sent, iov, n_iov, skip);
    corral_net_count(&n->stats.not_dumped, n->config.dump_fd >= 0 && !n->dumps);
}

/* --- its thread --- */

/* What a tap may give: what the driver knows. */
static void tell_tap(const struct corral_net *n)
{
    unsigned long offloads = corral_net_has(n, VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0;
    if (offloads) {
        offloads |= corral_net_has(n, VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0;
        offloads |= corral_net_has(n, VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0;
        offloads |= offloads != TUN_F_CSUM && corral_net_has(n, VIRTIO_NET_F_GUEST_ECN) ? TUN_F_TSO_ECN : 0;
    }
    ioctl(n->config.fd, TUNSETOFFLOAD, offloads);
}

/* Asks the driver to tell of what is waited for. True: it is there already. */
static bool listen_to_all(struct corral_net *n)
{
    bool more = false;
    for (unsigned i = 0; i < CORRAL_NET_QUEUES; i++) {
        struct corral_served_queue *q = &n->queue[i];
        bool waited = i == CORRAL_NET_RX ? n->starved : i == CORRAL_NET_TX ? !n->blocked : q->ready;
        if (waited)
            more |= corral_virtq_listen(&q->vq);
        else if (q->ready)
            corral_virtq_ignore(&q->vq);
    }
    return more;
}

static void wait_for_work(struct corral_net *n)
{
    short events = (n->starved ? 0 : POLLIN) | (n->blocked ? POLLOUT : 0);
    struct pollfd other = {.fd = n->link && events ? n->config.fd : -1, .events = events};
    corral_worker_wait(&n->worker, &other, 1);
}

static void serve(void *argument)
{
    struct corral_net *n = argument;
    struct corral_queue_worker *w = &n->worker;
    if (n->config.tap && n->link)
        tell_tap(n);
    while (!corral_worker_stopping(w) && !corral_worker_failed(w)) {
        bool busy = corral_net_send(n);
        busy |= corral_net_receive(n);
        busy |= corral_net_command(n);
        if (!busy && !listen_to_all(n))
            wait_for_work(n);
    }
}

/* --- life --- */

struct corral_net *corral_net_create(const struct corral_net_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq)
{
    struct corral_net *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->config = *config;
    n->link = config->fd >= 0;
    n->dumps = config->dump_fd >= 0;
    n->dump_left = config->dump_most ? config->dump_most : UINT64_MAX;
    pthread_mutex_init(&n->rules, NULL);
    if (config->filter)
        corral_net_set_filter(n, config->filter);
    n->config.filter = NULL; /* the caller's */
    int error = corral_worker_init(&n->worker, CORRAL_JAIL_STREAM, &config->worker, ram, irq);
    if (!error)
        error = corral_worker_add_thread(&n->worker, NULL, NULL, serve, n);
    if (error < 0) {
        corral_net_destroy(n);
        errno = -error;
        return NULL;
    }
    return n;
}

int corral_net_start(struct corral_net *n, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, bool resumes)
{
    int error = corral_worker_begin(&n->worker, features);
    if (!error && !(queues[CORRAL_NET_RX].ready && queues[CORRAL_NET_TX].ready))
        error = -EINVAL;
    for (unsigned i = 0; i < CORRAL_NET_QUEUES && !error; i++)
        error = corral_worker_queue(&n->worker, &n->queue[i], &queues[i], doorbells[i]);
    if (error)
        return error;
    /* What the other end has sent is still in the stage, and the rest of a frame that it has had a part of is its
     * own: a driver comes and goes, the stream goes on. */
    n->placed.n = n->placed.size = 0;
    n->blocked = n->starved = false;
    bool announces =
        resumes && n->queue[CORRAL_NET_CONTROL].ready && corral_net_has(n, VIRTIO_NET_F_GUEST_ANNOUNCE);
    __atomic_store_n(&n->announce, announces, __ATOMIC_SEQ_CST);
    if (resumes)
        corral_worker_resume(&n->worker);
    corral_worker_serve(&n->worker);
    if (resumes) /* also that the link may be another one */
        corral_virtio_irq_config(n->worker.irq);
    return 0;
}

void corral_net_set_filter(struct corral_net *n, const struct corral_net_filter *filter)
{
    pthread_mutex_lock(&n->rules);
    n->filter = *filter;
    n->filters = true;
    corral_net_forget_flows(&n->flows);
    pthread_mutex_unlock(&n->rules);
}

void corral_net_request_stop(struct corral_net *n)
{
    corral_worker_request_stop(&n->worker);
}

int corral_net_stop(struct corral_net *n)
{
    return corral_worker_stop(&n->worker);
}

int corral_net_destroy(struct corral_net *n)
{
    int error = n ? corral_net_stop(n) : 0;
    if (n && !error) {
        corral_worker_destroy(&n->worker);
        pthread_mutex_destroy(&n->rules);
        free(n);
    }
    return error;
}

bool corral_net_failed(const struct corral_net *n)
{
    return corral_worker_failed(&n->worker);
}

uint16_t corral_net_status(const struct corral_net *n)
{
    return (__atomic_load_n(&n->link, __ATOMIC_SEQ_CST) ? VIRTIO_NET_S_LINK_UP : 0) |
           (__atomic_load_n(&n->announce, __ATOMIC_SEQ_CST) ? VIRTIO_NET_S_ANNOUNCE : 0);
}

void corral_net_stats(const struct corral_net *n, struct corral_net_stats *stats)
{
    const uint64_t *from = (const uint64_t *)&n->stats;
    uint64_t *to = (uint64_t *)stats;
    for (unsigned i = 0; i < sizeof *stats / sizeof *to; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
