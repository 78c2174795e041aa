#define _GNU_SOURCE
#include "vsock.h"
#include "vsock_device.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTOR_ENDS_NS 300000000 /* at most */

/* --- the thread --- */

/* Whether the guest may not be told of anything: its driver would count it among what is gone. */
static bool holds(const struct corral_vsock *v)
{
    return v->awaits_driver || (v->owes_event && v->events.ready);
}

/* Tells the guest that its connections are gone (section 5.10.6.7). */
static void give_event(struct corral_vsock *v)
{
    struct corral_chain chain, other;
    if (v->awaits_driver && corral_virtq_has_more(&v->events.vq))
        v->awaits_driver = false;
    if (!v->owes_event || !v->events.ready)
        return;
    int got = corral_virtq_pop(&v->events.vq, &chain);
    if (got < 0)
        corral_worker_break(&v->worker);
    if (got <= 0)
        return;
    const uint32_t reset = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    uint32_t done = 0;
    for (unsigned i = chain.n_read; i < chain.n_read + chain.n_write && done < sizeof reset; i++) {
        const size_t left = sizeof reset - done, part = chain.iov[i].iov_len < left ? chain.iov[i].iov_len : left;
        memcpy(chain.iov[i].iov_base, (const uint8_t *)&reset + done, part);
        done += part;
    }
    /* The others are kept, so that the next one that is there tells that the driver has taken this one. */
    for (unsigned i = 1; i < v->events.vq.size && got > 0; i++)
        got = corral_virtq_pop(&v->events.vq, &other);
    if (got < 0)
        corral_worker_break(&v->worker);
    corral_virtq_push(&v->events.vq, chain.head, done);
    corral_virtq_publish(&v->events.vq);
    corral_worker_tell(&v->worker, &v->events);
    v->owes_event = false;
    v->awaits_driver = true;
}

/* Asks for doorbells. True: there is something to do now. */
static bool listen_to_all(struct corral_vsock *v)
{
    bool more = corral_virtq_listen(&v->tx.vq) && corral_vsock_can_take(v);
    if (holds(v))
        more |= corral_virtq_listen(&v->events.vq);
    else if (corral_vsock_has_more(v))
        more |= v->to_guest_held || corral_virtq_listen(&v->rx.vq);
    return more;
}

/* Here, since vCPUs' threads, which start a device, may close nothing. */
static void begin(struct corral_vsock *v)
{
    v->to_guest_held = false; /* its queue gives it again */
    if (!v->is_new)
        return;
    v->is_new = false;
    corral_vsock_clear(v);
    v->owes_event = v->resumes;
    if (v->config.first >= 0)
        corral_vsock_greet(v);
}

static void serve(void *argument)
{
    struct corral_vsock *v = argument;
    begin(v);
    while (!corral_worker_stopping(&v->worker) && !corral_worker_failed(&v->worker)) {
        give_event(v);
        corral_vsock_take(v);
        if (!holds(v)) {
            corral_vsock_look(v);
            corral_vsock_give(v);
        }
        if (listen_to_all(v))
            continue;
        /* With too many refusals that the guest does not take, sockets wait too. */
        const bool looks = !holds(v) && v->n_resets < CORRAL_VSOCK_RESETS_HOST;
        struct pollfd sockets = {.fd = looks ? v->epoll : -1, .events = POLLIN};
        corral_worker_wait(&v->worker, &sockets, 1);
    }
    if (!__atomic_load_n(&v->keeps, __ATOMIC_SEQ_CST))
        corral_vsock_clear(v);
}

/* --- life --- */

struct corral_vsock *corral_vsock_create(const struct corral_vsock_config *config, const struct corral_ram *ram,
                                         struct corral_virtio_irq *irq)
{
    struct corral_vsock *v = calloc(1, sizeof *v);
    if (!v) {
        if (config->connector >= 0)
            close(config->connector);
        if (config->first >= 0)
            close(config->first);
        return NULL;
    }
    v->config = *config;
    v->greets = config->first >= 0;
    v->listening = !v->greets;
    int error = corral_worker_init(&v->worker, CORRAL_JAIL_SOCKET, &config->worker, ram, irq);
    v->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!error && v->epoll < 0)
        error = -errno;
    if (!error && (!config->most || config->most > CORRAL_VSOCK_MOST))
        error = -EINVAL;
    if (!error && !corral_vsock_table_create(v))
        error = -ENOMEM;
    if (!error && config->listener >= 0)
        error = corral_vsock_watch(v, config->listener, CORRAL_VSOCK_LISTENER, v->listening ? EPOLLIN : 0);
    if (!error && config->connector >= 0)
        error = corral_vsock_watch(v, config->connector, CORRAL_VSOCK_CONNECTOR, EPOLLIN | EPOLLET);
    if (!error)
        error = corral_worker_add_thread(&v->worker, NULL, NULL, serve, v);
    if (error < 0) {
        corral_vsock_destroy(v);
        errno = -error;
        return NULL;
    }
    return v;
}

int corral_vsock_start(struct corral_vsock *v, uint64_t features, const struct corral_virtq_setup *queues,
                       const int *doorbells, const struct corral_vsock_saved *saved)
{
    struct corral_served_queue *all[CORRAL_VSOCK_QUEUES] = {&v->rx, &v->tx, &v->events};
    int error = corral_worker_begin(&v->worker, features);
    if (!error && !(queues[0].ready && queues[1].ready))
        error = -EINVAL;
    for (unsigned i = 0; !error && i < CORRAL_VSOCK_QUEUES; i++)
        error = corral_worker_queue(&v->worker, all[i], &queues[i], doorbells[i]);
    if (error)
        return error;
    if (saved) {
        corral_worker_resume(&v->worker);
        v->next_port = saved->next_port;
    }
    v->is_new = !(saved && v->keeps);
    v->resumes = saved != NULL;
    v->keeps = false;
    corral_worker_serve(&v->worker);
    return 0;
}

void corral_vsock_request_stop(struct corral_vsock *v)
{
    corral_worker_request_stop(&v->worker);
}

int corral_vsock_stop(struct corral_vsock *v)
{
    return corral_worker_stop(&v->worker);
}

int corral_vsock_pause(struct corral_vsock *v)
{
    if (corral_worker_running(&v->worker))
        __atomic_store_n(&v->keeps, true, __ATOMIC_SEQ_CST);
    return corral_worker_stop(&v->worker);
}

void corral_vsock_save(const struct corral_vsock *v, struct corral_vsock_saved *saved)
{
    *saved = (struct corral_vsock_saved){.next_port = v->next_port};
}

/* It has removed the path when it ends, and who takes that next shall find it free. By calls that the main thread
 * has in the jail. */
static void end_connector(int line)
{
    struct corral_vsock_question end = {.token = CORRAL_VSOCK_ENDS};
    struct iovec iov = {&end, sizeof end};
    const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct pollfd gone = {.fd = line};
    if (sendmsg(line, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ppoll(&gone, 1, &(struct timespec){.tv_nsec = CONNECTOR_ENDS_NS}, NULL);
    close(line);
}

int corral_vsock_destroy(struct corral_vsock *v)
{
    const int error = v ? corral_vsock_stop(v) : 0;
    if (v && !error) {
        corral_worker_destroy(&v->worker);
        corral_vsock_table_destroy(v);
        if (v->config.first >= 0)
            close(v->config.first);
        if (v->config.connector >= 0)
            end_connector(v->config.connector);
        if (v->epoll >= 0)
            close(v->epoll);
        free(v);
    }
    return error;
}

bool corral_vsock_failed(const struct corral_vsock *v)
{
    return corral_worker_failed(&v->worker);
}

void corral_vsock_stats(const struct corral_vsock *v, struct corral_vsock_stats *stats)
{
    const uint64_t *from = (const uint64_t *)&v->stats;
    uint64_t *to = (uint64_t *)stats;
    for (unsigned i = 0; i < sizeof *stats / sizeof *to; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
