#define _GNU_SOURCE
#include "ports.h"
#include "port_stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define CONTROL_RX 2
#define CONTROL_TX 3

/* --- control messages --- */

static struct corral_served_queue *queue(struct corral_ports *p, unsigned index)
{
    return p->queues[index].ready ? &p->queues[index] : NULL;
}

static uint32_t gather(const struct corral_chain *chain, uint8_t *to, uint32_t size)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < chain->n_read && done < size; i++) {
        size_t part = chain->iov[i].iov_len < size - done ? chain->iov[i].iov_len : size - done;
        memcpy(to + done, chain->iov[i].iov_base, part);
        done += part;
    }
    return done;
}

static uint32_t scatter(const struct corral_chain *chain, const uint8_t *from, uint32_t size)
{
    uint32_t done = 0;
    for (unsigned i = chain->n_read; i < chain->n_read + chain->n_write && done < size; i++) {
        size_t part = chain->iov[i].iov_len < size - done ? chain->iov[i].iov_len : size - done;
        memcpy(chain->iov[i].iov_base, from + done, part);
        done += part;
    }
    return done;
}

static void serve_control(struct corral_ports *p)
{
    struct corral_chain chain;
    struct corral_served_queue *from = queue(p, CONTROL_TX), *to = queue(p, CONTROL_RX);
    uint8_t message[CORRAL_CONTROL_MOST];
    bool any = false;
    for (unsigned i = 0; from && i < from->vq.size && corral_ports_pop(p, from, &chain); i++, any = true) {
        corral_control_take(&p->control, message, gather(&chain, message, sizeof message));
        corral_virtq_push(&from->vq, chain.head, 0);
    }
    if (any)
        corral_ports_give_back(p, from);
    any = false;
    while (corral_control_has_more(&p->control) && corral_ports_pop(p, to, &chain)) {
        uint32_t size = corral_control_next(&p->control, message);
        corral_virtq_push(&to->vq, chain.head, scatter(&chain, message, size));
        any = true;
    }
    if (any)
        corral_ports_give_back(p, to);
}

/* --- the thread --- */

static void serve_all(struct corral_ports *p)
{
    uint32_t asked = __atomic_load_n(&p->asked, __ATOMIC_SEQ_CST);
    serve_control(p);
    bool left = false;
    for (unsigned i = 0; i < p->control.n; i++) {
        struct corral_port *port = &p->port[i];
        corral_port_serve_rx(p, i);
        corral_port_serve_tx(p, port);
        left |= corral_port_has_output(port);
    }
    serve_control(p); /* an end that was found, too */
    if (!left && asked != p->flushed) {
        __atomic_store_n(&p->flushed, asked, __ATOMIC_SEQ_CST);
        eventfd_write(p->config.event_fd, 1);
    }
}

/* Asks for doorbells. True: there is something to do now. */
static bool listen_to_all(struct corral_ports *p)
{
    struct corral_served_queue *from = queue(p, CONTROL_TX), *to = queue(p, CONTROL_RX);
    bool more = from && corral_virtq_listen(&from->vq);
    if (to && corral_virtq_listen(&to->vq))
        more |= corral_control_has_more(&p->control);
    for (unsigned i = 0; i < p->control.n; i++) {
        struct corral_port *port = &p->port[i];
        if (port->tx && corral_virtq_listen(&port->tx->vq))
            more |= !port->stuck;
        if (port->rx && !port->to_guest.taken && corral_port_wants_input(p, i))
            corral_virtq_listen(&port->rx->vq); /* poll() asks for the source then */
    }
    return more;
}

static bool takes_input(struct corral_ports *p, unsigned index)
{
    const struct corral_port *port = &p->port[index];
    return corral_port_wants_input(p, index) && (port->to_guest.taken || corral_virtq_has_more(&port->rx->vq));
}

static void wait_for_work(struct corral_ports *p)
{
    struct pollfd on[2 * CORRAL_PORTS_MAX];
    unsigned n = 0;
    _Static_assert(2 * CORRAL_PORTS_MAX <= CORRAL_WORKER_EXTRA, "");
    for (unsigned i = 0; i < p->control.n; i++) {
        struct corral_port *port = &p->port[i];
        /* Also with nothing to write, to learn that the reader is gone. */
        on[n++] = (struct pollfd){.fd = port->sink, .events = corral_port_has_output(port) ? POLLOUT : 0};
        on[n++] = (struct pollfd){.fd = takes_input(p, i) ? port->source : -1, .events = POLLIN};
    }
    corral_worker_wait(&p->worker, on, n);
    for (unsigned i = 0; i < p->control.n; i++) {
        struct corral_port *port = &p->port[i];
        if (port->sink >= 0 && (on[2 * i].revents & (POLLERR | POLLHUP | POLLNVAL)))
            corral_port_lose_sink(p, port, EPIPE);
    }
}

static void serve(void *argument)
{
    struct corral_ports *p = argument;
    while (!corral_worker_stopping(&p->worker) && !corral_worker_failed(&p->worker)) {
        serve_all(p);
        if (!listen_to_all(p))
            wait_for_work(p);
    }
}

/* --- life --- */

struct corral_ports *corral_ports_create(const struct corral_ports_config *config, const struct corral_ram *ram,
                                         struct corral_virtio_irq *irq)
{
    struct corral_ports *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->config = *config;
    p->held = config->holds;
    for (unsigned i = 0; i < config->n; i++) {
        p->config.port[i].name[CORRAL_PORT_NAME - 1] = 0;
        corral_port_open(&p->port[i], config->port[i].source_fd, config->port[i].sink_fd);
    }
    int error = corral_worker_init(&p->worker, CORRAL_JAIL_STREAM, &config->worker, ram, irq);
    if (!error)
        error = corral_worker_add_thread(&p->worker, NULL, NULL, serve, p);
    if (error < 0) {
        corral_ports_destroy(p);
        errno = -error;
        return NULL;
    }
    return p;
}

static bool restore(struct corral_ports *p, const struct corral_ports_saved *saved)
{
    for (unsigned i = 0; i < p->config.n; i++) {
        if (!corral_control_restore(&p->control, i, &saved->talk[i]))
            return false;
        p->port[i].source_ended = saved->talk[i].ended;
        p->port[i].sent_before = saved->sent[i];
    }
    return true;
}

void corral_ports_save(const struct corral_ports *p, struct corral_ports_saved *saved)
{
    *saved = (struct corral_ports_saved){0};
    for (unsigned i = 0; i < p->config.n; i++) {
        corral_control_save(&p->control, i, &saved->talk[i]);
        saved->sent[i] = corral_port_sent(&p->port[i]);
    }
}

int corral_ports_start(struct corral_ports *p, uint64_t features, const struct corral_virtq_setup *queues,
                       const int *doorbells, const struct corral_ports_saved *saved)
{
    int error = corral_worker_begin(&p->worker, features);
    for (unsigned i = 0; i < CORRAL_PORT_QUEUES(p->config.n) && !error; i++)
        error = corral_worker_queue(&p->worker, &p->queues[i], &queues[i], doorbells[i]);
    if (error < 0)
        return error;
    const char *names[CORRAL_PORTS_MAX];
    for (unsigned i = 0; i < p->config.n; i++) {
        struct corral_port *port = &p->port[i];
        names[i] = p->config.port[i].name;
        corral_port_begin(port, p->config.port[i].source_fd);
        port->rx = queue(p, i ? 2 * i + 2 : 0);
        port->tx = queue(p, i ? 2 * i + 3 : 1);
    }
    corral_control_init(&p->control, p->config.n, names);
    if (saved && !restore(p, saved))
        return -EINVAL;
    if (saved)
        corral_worker_resume(&p->worker);
    corral_worker_serve(&p->worker);
    return 0;
}

void corral_ports_request_stop(struct corral_ports *p)
{
    corral_worker_request_stop(&p->worker);
}

int corral_ports_stop(struct corral_ports *p)
{
    return corral_worker_stop(&p->worker);
}

int corral_ports_destroy(struct corral_ports *p)
{
    if (!p)
        return 0;
    int error = corral_ports_stop(p);
    if (error)
        return error;
    corral_worker_destroy(&p->worker);
    free(p);
    return 0;
}

void corral_ports_release(struct corral_ports *p)
{
    __atomic_store_n(&p->held, false, __ATOMIC_SEQ_CST);
    corral_worker_wake(&p->worker);
}

void corral_ports_flush(struct corral_ports *p)
{
    __atomic_fetch_add(&p->asked, 1, __ATOMIC_SEQ_CST);
    corral_worker_wake(&p->worker);
}

bool corral_ports_flushed(const struct corral_ports *p)
{
    return !corral_worker_running(&p->worker) || corral_ports_failed(p) ||
           __atomic_load_n(&p->flushed, __ATOMIC_SEQ_CST) == __atomic_load_n(&p->asked, __ATOMIC_SEQ_CST);
}

bool corral_ports_failed(const struct corral_ports *p)
{
    return corral_worker_failed(&p->worker);
}

void corral_ports_state(const struct corral_ports *p, unsigned index, struct corral_port_state *state)
{
    const struct corral_port *port = &p->port[index];
    *state = (struct corral_port_state){
        .open = __atomic_load_n(&p->control.open[index], __ATOMIC_RELAXED),
        .sink_error = __atomic_load_n(&port->sink_error, __ATOMIC_SEQ_CST),
        .taken = __atomic_load_n(&port->taken, __ATOMIC_RELAXED),
        .written = __atomic_load_n(&port->written, __ATOMIC_RELAXED),
        .dropped = __atomic_load_n(&port->dropped, __ATOMIC_RELAXED),
    };
}
