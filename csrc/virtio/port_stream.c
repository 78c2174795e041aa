#define _GNU_SOURCE
#include "port_stream.h"
#include "vector_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONCE 16         /* segments of a chain in one call */
#define MOST (1u << 20) /* bytes in one call, which a stop waits for */

static void add(uint64_t *counter, uint64_t bytes)
{
    __atomic_fetch_add(counter, bytes, __ATOMIC_RELAXED);
}

static bool is_ready(int fd, short events)
{
    struct pollfd look = {.fd = fd, .events = events};
    return ppoll(&look, 1, &(struct timespec){0}, NULL) > 0;
}

static bool is_socket(int fd)
{
    struct stat about;
    return fd >= 0 && fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

/* A socket is asked not to block by each call, and a file does not. */
static bool may_block(int fd)
{
    struct stat about;
    if (fd < 0 || fstat(fd, &about) < 0 || S_ISREG(about.st_mode) || S_ISBLK(about.st_mode) ||
        S_ISSOCK(about.st_mode))
        return false;
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

void corral_port_open(struct corral_port *port, int source_fd, int sink_fd)
{
    port->sink = sink_fd;
    port->source_socket = is_socket(source_fd);
    port->sink_socket = is_socket(sink_fd);
    port->source_blocks = may_block(source_fd);
    port->sink_blocks = may_block(sink_fd);
}

void corral_port_begin(struct corral_port *port, int source_fd)
{
    port->source = source_fd;
    port->source_ended = port->stuck = port->to_guest.taken = port->from_guest.taken = false;
    port->sent_before = 0;
}

bool corral_ports_pop(struct corral_ports *p, struct corral_served_queue *q, struct corral_chain *chain)
{
    if (!q || corral_worker_failed(&p->worker))
        return false;
    int got = corral_virtq_pop(&q->vq, chain);
    if (got < 0)
        corral_worker_break(&p->worker);
    return got > 0;
}

void corral_ports_give_back(struct corral_ports *p, struct corral_served_queue *q)
{
    corral_virtq_publish(&q->vq);
    corral_worker_tell(&p->worker, q);
}

/* --- from the guest to a sink --- */

/* The next segments of a chain, so many bytes at most. */
static unsigned next_segments(const struct corral_held_chain *held, unsigned end, size_t most, struct iovec *iov)
{
    unsigned n = 0;
    for (unsigned i = held->at; i < end && n < ONCE && most; i++, n++) {
        iov[n] = held->chain.iov[i];
        iov[n].iov_len = iov[n].iov_len < most ? iov[n].iov_len : most;
        most -= iov[n].iov_len;
    }
    return n;
}

static void advance(struct corral_held_chain *held, size_t bytes)
{
    while (bytes) {
        struct iovec *segment = &held->chain.iov[held->at];
        size_t part = segment->iov_len < bytes ? segment->iov_len : bytes;
        segment->iov_base = (uint8_t *)segment->iov_base + part;
        segment->iov_len -= part;
        bytes -= part;
        held->at += !segment->iov_len;
    }
}

static uint64_t rest(const struct corral_held_chain *held, unsigned end)
{
    uint64_t bytes = 0;
    for (unsigned i = held->at; i < end; i++)
        bytes += held->chain.iov[i].iov_len;
    return bytes;
}

/* What a sink has had before the device was stopped. */
static void skip(struct corral_held_chain *held, uint64_t bytes)
{
    uint64_t all = rest(held, held->chain.n_read);
    advance(held, bytes < all ? bytes : all);
}

static ssize_t send_some(const struct corral_port *port, struct iovec *iov, unsigned n)
{
    if (!port->sink_socket)
        return corral_writev(port->sink, iov, n, CORRAL_HERE, 0);
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    return sendmsg(port->sink, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void corral_port_lose_sink(struct corral_ports *p, struct corral_port *port, int error)
{
    __atomic_store_n(&port->sink_error, error, __ATOMIC_SEQ_CST);
    port->sink = -1;
    port->stuck = false;
    eventfd_write(p->config.event_fd, 1);
}

/* False: the sink takes no more at present. */
static bool write_out(struct corral_ports *p, struct corral_port *port, struct corral_held_chain *held)
{
    unsigned end = held->chain.n_read;
    while (held->at < end && port->sink >= 0) {
        struct iovec iov[ONCE];
        if (corral_worker_stopping(&p->worker) || (port->sink_blocks && !is_ready(port->sink, POLLOUT)))
            return false;
        /* What blocks takes a pipe's page at once, where it can be written at all. */
        unsigned n = next_segments(held, end, port->sink_blocks ? PIPE_BUF : MOST, iov);
        ssize_t done = send_some(port, iov, n);
        if (done < 0 && errno == EAGAIN)
            return false;
        if (done < 0 && errno != EINTR)
            corral_port_lose_sink(p, port, errno);
        if (done > 0) {
            advance(held, done);
            add(&port->written, done);
        }
    }
    add(&port->dropped, rest(held, end));
    return true;
}

uint32_t corral_port_sent(const struct corral_port *port)
{
    const struct corral_held_chain *held = &port->from_guest;
    return held->taken ? held->chain.read_size - rest(held, held->chain.n_read) : port->sent_before;
}

bool corral_port_has_output(const struct corral_port *port)
{
    return port->tx && (port->from_guest.taken || corral_virtq_has_more(&port->tx->vq));
}

void corral_port_serve_tx(struct corral_ports *p, struct corral_port *port)
{
    struct corral_held_chain *held = &port->from_guest;
    bool any = false;
    for (unsigned i = 0; port->tx && i < port->tx->vq.size && !corral_worker_stopping(&p->worker); i++) {
        if (!held->taken) {
            if (!corral_ports_pop(p, port->tx, &held->chain))
                break;
            held->taken = true;
            held->at = 0;
            skip(held, port->sent_before);
            port->sent_before = 0;
        }
        port->stuck = !write_out(p, port, held);
        if (port->stuck)
            break;
        held->taken = false;
        corral_virtq_push(&port->tx->vq, held->chain.head, 0);
        any = true;
    }
    if (any)
        corral_ports_give_back(p, port->tx);
}

/* --- from a source to the guest --- */

static ssize_t receive_some(const struct corral_port *port, struct iovec *iov, unsigned n)
{
    if (!port->source_socket)
        return corral_readv(port->source, iov, n, CORRAL_HERE);
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    return recvmsg(port->source, &message, MSG_DONTWAIT);
}

bool corral_port_wants_input(const struct corral_ports *p, unsigned index)
{
    const struct corral_port *port = &p->port[index];
    if (index && __atomic_load_n(&p->held, __ATOMIC_SEQ_CST))
        return false;
    return port->source >= 0 && !port->source_ended && p->control.open[index] && port->rx;
}

void corral_port_serve_rx(struct corral_ports *p, unsigned index)
{
    struct corral_port *port = &p->port[index];
    struct corral_held_chain *held = &port->to_guest;
    bool any = false;
    for (unsigned i = 0;
         corral_port_wants_input(p, index) && i < port->rx->vq.size && !corral_worker_stopping(&p->worker); i++) {
        if (!held->taken && !corral_ports_pop(p, port->rx, &held->chain))
            break;
        held->taken = true;
        held->at = held->chain.n_read;
        if (port->source_blocks && !is_ready(port->source, POLLIN))
            break;
        struct iovec iov[ONCE];
        unsigned n = next_segments(held, held->chain.n_read + held->chain.n_write, MOST, iov);
        ssize_t got = n ? receive_some(port, iov, n) : 0;
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n && got <= 0) { /* a terminal that hung up, or is another's at present, has nothing more for us */
            port->source_ended = true;
            corral_control_end(&p->control, index);
            break;
        }
        held->taken = false;
        add(&port->taken, got);
        corral_virtq_push(&port->rx->vq, held->chain.head, got);
        any = true;
    }
    if (any)
        corral_ports_give_back(p, port->rx);
}
