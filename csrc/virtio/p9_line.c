#define _GNU_SOURCE
#include "p9_line.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define NO_TAG 0xffff
#define WORD "9P2000.L"

int corral_p9_line_init(struct corral_p9_line *l, int fd)
{
    l->fd = fd;
    l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return l->stop_fd < 0 ? -errno : 0;
}

void corral_p9_line_destroy(struct corral_p9_line *l)
{
    if (l->stop_fd >= 0)
        close(l->stop_fd);
    l->stop_fd = -1;
}

void corral_p9_line_begin(struct corral_p9_line *l)
{
    eventfd_t ignored;
    eventfd_read(l->stop_fd, &ignored);
    l->anew = l->sent > 0;
    l->session = l->anew ? l->sent + 1 : 0; /* behind the answer to the Tversion */
}

void corral_p9_line_stop(struct corral_p9_line *l)
{
    eventfd_write(l->stop_fd, 1);
}

bool corral_p9_line_is_gone(const struct corral_p9_line *l)
{
    return __atomic_load_n(&l->gone, __ATOMIC_SEQ_CST);
}

static bool lose(struct corral_p9_line *l)
{
    __atomic_store_n(&l->gone, true, __ATOMIC_SEQ_CST);
    corral_p9_line_stop(l); /* the other thread waits no more */
    return false;
}

/* False: a stop. */
static bool wait_for(const struct corral_p9_line *l, short events)
{
    struct pollfd on[2] = {{.fd = l->stop_fd, .events = POLLIN}, {.fd = l->fd, .events = events}};
    return ppoll(on, 2, NULL, NULL) < 0 || !on[0].revents;
}

/* What is left of `out`. */
static bool send_rest(struct corral_p9_line *l)
{
    while (l->left && !corral_p9_line_is_gone(l)) {
        struct iovec rest = {l->out + l->size - l->left, l->left};
        const struct msghdr message = {.msg_iov = &rest, .msg_iovlen = 1};
        ssize_t n = sendmsg(l->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            l->left -= n;
        else if (errno == EAGAIN) {
            if (!wait_for(l, POLLOUT))
                return false;
        } else if (errno != EINTR)
            return lose(l);
    }
    return !l->left;
}

bool corral_p9_line_send(struct corral_p9_line *l, uint32_t size)
{
    l->sent++;
    l->size = l->left = size;
    return send_rest(l);
}

/* size[4] type[1] tag[2] msize[4] version[s] */
bool corral_p9_line_greet(struct corral_p9_line *l)
{
    static const uint8_t hello[] = {CORRAL_P9_HEADER + 6 + sizeof WORD - 1,
                                    0,
                                    0,
                                    0,
                                    CORRAL_P9_T_VERSION,
                                    NO_TAG & 0xff,
                                    NO_TAG >> 8,
                                    CORRAL_P9_MESSAGE_MAX & 0xff,
                                    CORRAL_P9_MESSAGE_MAX >> 8 & 0xff,
                                    CORRAL_P9_MESSAGE_MAX >> 16 & 0xff,
                                    CORRAL_P9_MESSAGE_MAX >> 24,
                                    sizeof WORD - 1,
                                    0};
    if (!l->anew)
        return true;
    if (!send_rest(l)) /* of the last session */
        return false;
    l->anew = false;
    memcpy(l->out, hello, sizeof hello);
    memcpy(l->out + sizeof hello, WORD, sizeof WORD - 1);
    return corral_p9_line_send(l, sizeof hello + sizeof WORD - 1);
}

/* More of the answer at `begin`, which is `size` bytes long. */
static bool receive_more(struct corral_p9_line *l, uint32_t size)
{
    if (l->begin == l->end)
        l->begin = l->end = 0;
    if (sizeof l->in - l->begin < size) {
        memmove(l->in, l->in + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    struct iovec room = {l->in + l->end, sizeof l->in - l->end};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1};
    if (!wait_for(l, POLLIN))
        return false;
    ssize_t n = recvmsg(l->fd, &message, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        return lose(l);
    l->end += n > 0 ? n : 0;
    return true;
}

const uint8_t *corral_p9_line_receive(struct corral_p9_line *l)
{
    for (;;) {
        const uint32_t have = l->end - l->begin;
        const uint8_t *answer = l->in + l->begin;
        uint32_t size = have < CORRAL_P9_HEADER ? CORRAL_P9_HEADER : corral_p9_get32(answer);
        if (size < CORRAL_P9_HEADER || size > sizeof l->in) {
            lose(l);
            return NULL;
        }
        if (have < size || have < CORRAL_P9_HEADER) {
            if (!receive_more(l, size))
                return NULL;
            continue;
        }
        l->begin += size;
        if (l->received++ >= l->session)
            return answer;
    }
}
