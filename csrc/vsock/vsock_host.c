/* The sockets of a virtio-vsock. Each is watched by epoll(7) for as long as it is open and told of when something
 * changes (EPOLLET), so that a byte costs no call but the one that moves it. */
#define _GNU_SOURCE
#include "vsock_device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 64
#define LINE 32  /* "CONNECT 4294967295\n" and what a client may put between */
#define ONCE 128 /* segments of what is kept, in one call */

int corral_vsock_watch(struct corral_vsock *v, int fd, uint64_t token, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(v->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void corral_vsock_listen(struct corral_vsock *v, bool listening)
{
    struct epoll_event event = {.events = listening ? EPOLLIN : 0, .data.u64 = CORRAL_VSOCK_LISTENER};
    v->listening = listening;
    if (v->config.listener < 0)
        return;
    epoll_ctl(v->epoll, EPOLL_CTL_MOD, v->config.listener, &event);
}

static bool watch_connection(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    return corral_vsock_watch(v, c->fd, corral_vsock_token(v, c), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) == 0;
}

void corral_vsock_greet(struct corral_vsock *v)
{
    struct corral_vsock_connection *c = corral_vsock_add(v, CORRAL_VSOCK_NAMING, v->config.first);
    v->config.first = -1;
    v->first = corral_vsock_token(v, c);
    if (!watch_connection(v, c))
        corral_vsock_remove(v, c);
}

/* --- programs of the host that connect --- */

static void accept_some(struct corral_vsock *v)
{
    for (unsigned i = 0; i < EVENTS; i++) {
        if (v->free == CORRAL_VSOCK_NONE) {
            corral_vsock_listen(v, false);
            return;
        }
        const int fd = accept4(v->config.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                corral_vsock_listen(v, false); /* no descriptors: until a connection ends */
            return;
        }
        struct corral_vsock_connection *c = corral_vsock_add(v, CORRAL_VSOCK_NAMING, fd);
        if (!watch_connection(v, c))
            corral_vsock_remove(v, c);
    }
}

/* The number in "CONNECT N\n"; false: it is something else. */
static bool parse(const char *line, uint32_t *port)
{
    static const char word[] = "CONNECT ";
    uint64_t number = 0;
    const char *at = line + sizeof word - 1;
    if (strncmp(line, word, sizeof word - 1) != 0 || *at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if ((number = number * 10 + (*at - '0')) > UINT32_MAX - 1)
            return false;
    *port = number;
    return at[*at == '\r'] == '\n';
}

static void read_name(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    char line[LINE + 1];
    uint32_t port;
    const ssize_t seen = recv(c->fd, line, LINE, MSG_PEEK | MSG_DONTWAIT);
    if (seen < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    line[seen > 0 ? seen : 0] = 0;
    const char *end = seen > 0 ? memchr(line, '\n', seen) : NULL;
    if (!end && seen > 0 && seen < LINE && !c->may_end)
        return; /* the rest is still to come */
    if (!end || !parse(line, &port) || recv(c->fd, line, end + 1 - line, MSG_DONTWAIT) != end + 1 - line) {
        corral_vsock_count(&v->stats.refused, 1);
        corral_vsock_remove(v, c);
        return;
    }
    corral_vsock_name(v, c, port, corral_vsock_new_port(v, port));
    c->state = CORRAL_VSOCK_ASKING_GUEST;
    c->readable = true; /* what follows may be there already */
    corral_vsock_owe(v, c, OWES_REQUEST);
}

void corral_vsock_tell_port(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    char line[LINE];
    const int size = snprintf(line, sizeof line, "OK %u\n", c->host_port);
    c->state = CORRAL_VSOCK_OPEN;
    corral_vsock_count(&v->stats.opened, 1);
    if (send(c->fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL) != size)
        corral_vsock_hang_up(v, c);
    corral_vsock_is_due(v, c);
}

/* --- programs of the guest that connect --- */

void corral_vsock_ask_host(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    const struct corral_vsock_question question = {.token = corral_vsock_token(v, c), .port = c->host_port};
    if (send(v->config.connector, &question, sizeof question, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof question)
        return;
    corral_vsock_count(&v->stats.refused, 1);
    corral_vsock_refuse(v, v->config.cid, c->guest_port, c->host_port, VIRTIO_VSOCK_TYPE_STREAM);
    corral_vsock_remove(v, c);
}

static void take_answer(struct corral_vsock *v, uint64_t token, int fd)
{
    struct corral_vsock_connection *c = corral_vsock_by_token(v, token);
    if (!c || c->state != CORRAL_VSOCK_ASKING_HOST) { /* the guest has left meanwhile */
        if (fd >= 0)
            close(fd);
        return;
    }
    c->fd = fd;
    if (fd >= 0 && watch_connection(v, c)) {
        c->state = CORRAL_VSOCK_OPEN;
        corral_vsock_count(&v->stats.opened, 1);
        corral_vsock_owe(v, c, OWES_RESPONSE);
        return;
    }
    corral_vsock_count(&v->stats.refused, 1);
    corral_vsock_refuse(v, v->config.cid, c->guest_port, c->host_port, VIRTIO_VSOCK_TYPE_STREAM);
    corral_vsock_remove(v, c);
}

static void take_answers(struct corral_vsock *v)
{
    while (v->has_answers && v->n_resets < CORRAL_VSOCK_RESETS_HOST) {
        struct corral_vsock_question answer;
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {&answer, sizeof answer};
        struct msghdr message = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        const ssize_t got = recvmsg(v->config.connector, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != sizeof answer) {
            v->has_answers = false;
            return;
        }
        int fd = -1;
        const struct cmsghdr *sent = CMSG_FIRSTHDR(&message);
        if (sent && sent->cmsg_level == SOL_SOCKET && sent->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(sent), sizeof fd);
        take_answer(v, answer.token, fd);
    }
}

/* --- bytes for programs of the host --- */

void corral_vsock_hang_up(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    c->hung_up = true;
    corral_vsock_forget(v, c, c->kept);
    c->forwarded = c->received;
    if (c->state == CORRAL_VSOCK_OPEN)
        corral_vsock_owe(v, c, OWES_SHUTDOWN);
}

static void has_forwarded(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t size)
{
    c->forwarded += size;
    if (c->forwarded - c->credit >= CORRAL_VSOCK_WINDOW / 2)
        corral_vsock_owe(v, c, OWES_CREDIT);
}

/* Returns what was sent; 0 also of a socket that has gone. */
static size_t send_some(struct corral_vsock *v, struct corral_vsock_connection *c, struct iovec *iov, unsigned n)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    const ssize_t sent = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM)
        corral_vsock_hang_up(v, c);
    return 0;
}

void corral_vsock_forward(struct corral_vsock *v, struct corral_vsock_connection *c, struct iovec *iov, unsigned n)
{
    size_t size = 0, sent = 0;
    for (unsigned i = 0; i < n; i++)
        size += iov[i].iov_len;
    if (c->fd >= 0 && !c->hung_up && !c->kept && size)
        sent = send_some(v, c, iov, n);
    if (c->fd < 0 || c->hung_up) { /* the guest has been told, or will be */
        c->forwarded = c->received;
        return;
    }
    size_t skip = sent;
    for (unsigned i = 0; i < n; i++) {
        const size_t part = iov[i].iov_len < skip ? iov[i].iov_len : skip;
        skip -= part;
        corral_vsock_keep(v, c, (const uint8_t *)iov[i].iov_base + part, iov[i].iov_len - part);
    }
    has_forwarded(v, c, sent);
}

static void send_kept(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    while (c->kept) {
        struct iovec iov[ONCE];
        const size_t sent = send_some(v, c, iov, corral_vsock_kept(v, c, iov, ONCE));
        if (!sent)
            return;
        corral_vsock_forget(v, c, sent);
        has_forwarded(v, c, sent);
    }
    corral_vsock_end(v, c);
}

void corral_vsock_end(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    if (c->kept)
        return;
    if (c->guest_ended == CORRAL_VSOCK_BOTH) {
        corral_vsock_refuse(v, v->config.cid, c->guest_port, c->host_port, VIRTIO_VSOCK_TYPE_STREAM);
        corral_vsock_remove(v, c);
        return;
    }
    if (c->guest_ended & CORRAL_VSOCK_NO_SEND && !c->shut && c->fd >= 0) {
        c->shut = true;
        shutdown(c->fd, SHUT_WR);
    }
}

/* --- events --- */

static void look_at(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t events)
{
    c->may_end |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (c->state == CORRAL_VSOCK_NAMING) {
        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            read_name(v, c);
        return;
    }
    if (c->state == CORRAL_VSOCK_OPEN && events & EPOLLOUT && c->kept)
        send_kept(v, c);
    if (c->state == CORRAL_VSOCK_FREE)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        c->readable = !c->ended;
        corral_vsock_is_due(v, c);
    }
    if (events & (EPOLLHUP | EPOLLERR) && !c->hung_up)
        corral_vsock_hang_up(v, c);
}

void corral_vsock_look(struct corral_vsock *v)
{
    struct epoll_event events[EVENTS];
    _Static_assert(CORRAL_VSOCK_RESETS - CORRAL_VSOCK_RESETS_HOST >= EVENTS,
                   "an event refuses a connection at most");
    const int n = v->n_resets < CORRAL_VSOCK_RESETS_HOST ? epoll_wait(v->epoll, events, EVENTS, 0) : 0;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == CORRAL_VSOCK_LISTENER) {
            accept_some(v);
        } else if (events[i].data.u64 == CORRAL_VSOCK_CONNECTOR) {
            v->has_answers = true;
        } else {
            struct corral_vsock_connection *c = corral_vsock_by_token(v, events[i].data.u64);
            if (c)
                look_at(v, c, events[i].events);
        }
    }
    take_answers(v);
}
