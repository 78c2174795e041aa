/* Messages from the socket to handlers, and answers back.
 *
 * One worker at a time receives: it leads. What can be answered at once it answers itself and goes on; before it
 * does what may wait (p9_may_wait) it lets another lead. So a question costs no change of threads, and a slow disk
 * holds up P9_WORKERS questions of files there before it holds up others. */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define AHEAD 4096 /* bytes that are received before it is known how many there are */
#define ANY_TAG (-1)
#define LEAST_MESSAGE 4096 /* for both sides: as Linux has it */

struct p9_config p9_config;

struct p9_worker {
    bool leads;
    /* Of the question that it answers, under `tags`: which it is of all that were received, 0 for none. */
    uint64_t serial;
    uint16_t tag;
    uint8_t in[CORRAL_P9_MESSAGE_MAX];
    uint8_t out[CORRAL_P9_MESSAGE_MAX];
};

static struct p9_worker workers[P9_WORKERS];
static pthread_mutex_t lead = PTHREAD_MUTEX_INITIALIZER; /* of receiving */
static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t tags = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t begun;
static uint64_t received; /* questions, under `tags` */
static int socket_fd;
static uint32_t message_max = CORRAL_P9_MESSAGE_MAX; /* as agreed on; atomic */
static uint8_t ahead[AHEAD];                         /* received and not looked at; the leader's */
static size_t ahead_size;

struct p9_worker *p9_worker(unsigned index)
{
    return &workers[index];
}

void p9_may_wait(struct p9_request *r)
{
    if (!r->worker->leads)
        return;
    r->worker->leads = false;
    pthread_mutex_unlock(&lead);
}

/* --- handlers of what concerns messages themselves --- */

/* Whether a question with this tag, or any, that was received before is being answered. Under `tags`. */
static bool is_answering(int tag, uint64_t before)
{
    for (unsigned i = 0; i < P9_WORKERS; i++)
        if (workers[i].serial && workers[i].serial < before && (tag == ANY_TAG || workers[i].tag == tag))
            return true;
    return false;
}

static void wait_for_earlier(const struct p9_worker *w, int tag)
{
    pthread_mutex_lock(&tags);
    while (is_answering(tag, w->serial))
        pthread_cond_wait(&answered, &tags);
    pthread_mutex_unlock(&tags);
}

/* msize[4] version[s]: msize[4] version[s]. A new session: all earlier questions are answered, no later one is
 * received, and the guest knows no fid any more. */
static int version(struct p9_request *r)
{
    char asked[16];
    uint32_t size = p9_get32(&r->in);
    p9_get_string(&r->in, asked, sizeof asked);
    if (r->in.bad || size < LEAST_MESSAGE)
        return EINVAL;
    size = size < CORRAL_P9_MESSAGE_MAX ? size : CORRAL_P9_MESSAGE_MAX;
    wait_for_earlier(r->worker, ANY_TAG);
    p9_fids_forget_all();
    __atomic_store_n(&message_max, size, __ATOMIC_RELAXED);
    p9_put32(&r->out, size);
    p9_put_string(&r->out, strcmp(asked, "9P2000.L") ? "unknown" : asked);
    return 0;
}

/* oldtag[2]. What is being done is not undone: the answer comes when that question has been answered. Each waits
 * for earlier ones only, so none for ever; a later one may have the same tag. */
static int flush(struct p9_request *r)
{
    uint16_t old = p9_get16(&r->in);
    if (r->in.bad)
        return EINVAL;
    p9_may_wait(r);
    wait_for_earlier(r->worker, old);
    return 0;
}

/* --- from a question to its answer --- */

static const struct {
    p9_handler *handler;
    bool changes; /* something, so it is refused where the folder is to be read */
} handlers[CORRAL_P9_KINDS] = {
    [CORRAL_P9_T_STATFS] = {p9_statfs, false},
    [CORRAL_P9_T_LOPEN] = {p9_lopen, false}, /* looks at its flags itself */
    [CORRAL_P9_T_LCREATE] = {p9_lcreate, true},
    [CORRAL_P9_T_SYMLINK] = {p9_symlink, true},
    [CORRAL_P9_T_MKNOD] = {p9_mknod, true},
    [CORRAL_P9_T_READLINK] = {p9_readlink, false},
    [CORRAL_P9_T_GETATTR] = {p9_getattr, false},
    [CORRAL_P9_T_SETATTR] = {p9_setattr, true},
    [CORRAL_P9_T_XATTRWALK] = {p9_xattrwalk, false},
    [CORRAL_P9_T_XATTRCREATE] = {p9_xattrcreate, true},
    [CORRAL_P9_T_READDIR] = {p9_readdir, false},
    [CORRAL_P9_T_FSYNC] = {p9_fsync, false},
    [CORRAL_P9_T_LOCK] = {p9_lock, false}, /* looks at its type itself */
    [CORRAL_P9_T_GETLOCK] = {p9_getlock, false},
    [CORRAL_P9_T_LINK] = {p9_link, true},
    [CORRAL_P9_T_MKDIR] = {p9_mkdir, true},
    [CORRAL_P9_T_RENAMEAT] = {p9_renameat, true},
    [CORRAL_P9_T_UNLINKAT] = {p9_unlinkat, true},
    [CORRAL_P9_T_VERSION] = {version, false},
    [CORRAL_P9_T_ATTACH] = {p9_attach, false},
    [CORRAL_P9_T_FLUSH] = {flush, false},
    [CORRAL_P9_T_WALK] = {p9_walk, false},
    [CORRAL_P9_T_READ] = {p9_read, false},
    [CORRAL_P9_T_WRITE] = {p9_write, true},
    [CORRAL_P9_T_CLUNK] = {p9_clunk, false},
    [CORRAL_P9_T_REMOVE] = {p9_remove, false},
};

static uint16_t tag_of(const uint8_t *message)
{
    return corral_p9_get16(message + 5);
}

static void put_header(uint8_t *message, uint32_t size, uint8_t type, uint16_t tag)
{
    struct p9_answer header = {.at = message, .end = message + CORRAL_P9_HEADER};
    p9_put32(&header, size);
    p9_put8(&header, type);
    p9_put16(&header, tag);
}

uint32_t p9_answer_to(struct p9_worker *w, uint8_t *message, uint32_t size, uint8_t *answer)
{
    uint8_t type = message[4];
    uint16_t tag = tag_of(message);
    uint32_t most = __atomic_load_n(&message_max, __ATOMIC_RELAXED);
    struct p9_request r = {.worker = w,
                           .in = {.at = message + CORRAL_P9_HEADER, .end = message + size},
                           .out = {.at = answer + CORRAL_P9_HEADER, .end = answer + most}};
    int error = EOPNOTSUPP;
    if (type < CORRAL_P9_KINDS && handlers[type].handler)
        error = p9_config.read_only && handlers[type].changes ? EROFS : handlers[type].handler(&r);
    if (!error && (r.in.bad || r.out.full))
        error = r.in.bad ? EINVAL : EMSGSIZE;
    if (error) {
        r.out = (struct p9_answer){.at = answer + CORRAL_P9_HEADER, .end = answer + CORRAL_P9_MESSAGE_MAX};
        p9_put32(&r.out, error);
    }
    put_header(answer, r.out.at - answer, error ? CORRAL_P9_R_LERROR : type + 1, tag);
    return r.out.at - answer;
}

/* --- the socket --- */

/* Ends the process when the other side has ended, which is how it is told to. */
static void receive(uint8_t *to, size_t size)
{
    size_t got = size < ahead_size ? size : ahead_size;
    memcpy(to, ahead, got);
    memmove(ahead, ahead + got, ahead_size - got);
    ahead_size -= got;
    while (got < size) {
        bool small = size - got < AHEAD;
        ssize_t n = small ? recv(socket_fd, ahead, AHEAD, 0) : recv(socket_fd, to + got, size - got, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            _exit(EXIT_SUCCESS);
        if (n < 0)
            continue;
        size_t used = n;
        if (small) {
            used = used < size - got ? used : size - got;
            memcpy(to + got, ahead, used);
            memmove(ahead, ahead + used, n - used);
            ahead_size = n - used;
        }
        got += used;
    }
}

static void send_all(const uint8_t *message, uint32_t size)
{
    pthread_mutex_lock(&sending);
    while (size) {
        ssize_t n = send(socket_fd, message, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            _exit(EXIT_SUCCESS);
        message += n > 0 ? n : 0;
        size -= n > 0 ? n : 0;
    }
    pthread_mutex_unlock(&sending);
}

/* A whole question. */
static uint32_t next(struct p9_worker *w)
{
    receive(w->in, CORRAL_P9_HEADER);
    uint32_t size = corral_p9_get32(w->in);
    if (size < CORRAL_P9_HEADER || size > CORRAL_P9_MESSAGE_MAX)
        p9_give_up("it was sent a message of an impossible length", 0);
    receive(w->in + CORRAL_P9_HEADER, size - CORRAL_P9_HEADER);
    return size;
}

static _Noreturn void work(struct p9_worker *w)
{
    for (;;) {
        if (!w->leads)
            pthread_mutex_lock(&lead);
        w->leads = true;
        uint32_t size = next(w);
        /* While it leads: a Tflush that is received later finds it. */
        pthread_mutex_lock(&tags);
        w->serial = ++received;
        w->tag = tag_of(w->in);
        pthread_mutex_unlock(&tags);
        send_all(w->out, p9_answer_to(w, w->in, size, w->out));
        pthread_mutex_lock(&tags);
        w->serial = 0;
        pthread_cond_broadcast(&answered);
        pthread_mutex_unlock(&tags);
    }
}

static void *begin(void *argument)
{
    pthread_barrier_wait(&begun);
    work(argument);
}

_Noreturn void p9_serve(int socket, void (*ready)(void))
{
    pthread_t thread;
    socket_fd = socket;
    pthread_mutex_lock(&lead);
    p9_worker(0)->leads = true;
    pthread_barrier_init(&begun, NULL, P9_WORKERS);
    for (unsigned i = 1; i < P9_WORKERS; i++) {
        int error = pthread_create(&thread, NULL, begin, p9_worker(i));
        if (error)
            p9_give_up("it cannot start its threads", error);
    }
    pthread_barrier_wait(&begun); /* a thread's first system calls are the C library's own */
    ready();
    work(&workers[0]);
}
