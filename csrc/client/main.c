/* `corral-client WORDS...` is `corral WORDS...` by a process of the pool, where this user has one (docs/pool.md).
 *
 * A process of the pool (src/corral/pool) has Python and Corral loaded. It gets the words, the environment, the
 * folder, the umask, which signals are ignored, and the three standard descriptors; it answers with a descriptor
 * of itself, for signals, and at the end with its exit status. Each step until the last word of the hand-over may
 * fail: then this program becomes `corral`, which is beside it. Nothing runs twice: a process of the pool begins
 * when it is told to, and from there on this program becomes nothing else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MAGIC 0x314c5043u /* "CPL1" */
#define MOST (1u << 17)   /* bytes of words and environment; more go without the pool */
#define PATIENCE 250      /* ms for a process of the pool to take the request */
#define LOST 137          /* the exit status when that process was killed */
#define HANDED 4          /* descriptors: the standard ones and the folder */
#define TAKEN 'y'
#define BEGIN 'b'

extern char **environ;

static const char *const served[] = {"boot", "run", "exec"};
static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

struct request {
    uint32_t magic, size, words, variables, mask;
    uint32_t ignored; /* a bit for each signal's number */
};

static char folder[4096]; /* the one that this program is in */

static void find_folder(void)
{
    const ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[n < 0 ? 0 : n] = 0;
    char *end = strrchr(folder, '/');
    if (end)
        *end = 0;
}

/* The command without a pool. */
static int become_corral(char **words)
{
    static char path[sizeof folder + 8];
    snprintf(path, sizeof path, "%s/corral", folder);
    words[0] = path;
    execv(path, words);
    fprintf(stderr, "corral-client: %s: %s; install Corral anew\n", path, strerror(errno));
    return 3;
}

/* FNV-1a of the folder: each installation has a pool of its own. */
static uint64_t key(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *at = folder; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
    return hash;
}

/* Whether a word names a descriptor, as a shell's <(...) does, or one is handed on. Others are of no use to the
 * command: it keeps them open, and so does this program. */
static bool needs_descriptors(char **words)
{
    for (; *words; words++)
        if (strstr(*words, "/fd/"))
            return true;
    return getenv("CORRAL_BACKGROUND");
}

/* A terminal's job in the background: what reads from there must be stopped by the terminal, as no other process
 * is. */
static bool is_in_background(void)
{
    const pid_t group = tcgetpgrp(STDIN_FILENO);
    return group > 0 && group != getpgrp();
}

static bool is_served(int argc, char **argv)
{
    struct stat about;
    bool known = false;
    for (unsigned i = 0; argc > 1 && i < sizeof served / sizeof *served; i++)
        known |= strcmp(argv[1], served[i]) == 0;
    for (int fd = 0; fd <= 2; fd++)
        known = known && fstat(fd, &about) == 0;
    return known && !needs_descriptors(argv) && !is_in_background();
}

/* The pool's socket, connected; -1: there is none of this user's. */
static int connected(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_usec = PATIENCE * 1000};
    const char *given = getenv("XDG_RUNTIME_DIR");
    const unsigned uid = getuid();
    char base[sizeof address.sun_path];
    struct stat about;
    struct ucred peer;
    socklen_t size = sizeof peer;

    snprintf(base, sizeof base, "/run/user/%u", uid);
    const bool has_user = stat(base, &about) == 0 && S_ISDIR(about.st_mode);
    int n;
    if (given && *given)
        n = snprintf(base, sizeof base, "%s/corral", given);
    else
        n = snprintf(base, sizeof base, has_user ? "/run/user/%u/corral" : "/tmp/corral-%u", uid);
    if (n < 0 || (size_t)n >= sizeof base)
        return -1;
    n = snprintf(address.sun_path, sizeof address.sun_path, "%s/.pool-%016llx", base, (unsigned long long)key());
    if (n < 0 || (size_t)n >= sizeof address.sun_path)
        return -1;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid())
        return fd;
    close(fd);
    return -1;
}

/* Behind `text`, of which `have` bytes are taken; more than MOST: too long. */
static size_t add_all(char *text, size_t have, char **strings, uint32_t *count)
{
    for (; *strings && have <= MOST; strings++, ++*count) {
        const size_t size = strlen(*strings) + 1;
        if (size > MOST - have)
            return MOST + 1;
        memcpy(text + have, *strings, size);
        have += size;
    }
    return have;
}

static uint32_t ignored_signals(void)
{
    uint32_t ignored = 0;
    struct sigaction action;
    for (unsigned i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
        if (sigaction(forwarded[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            ignored |= 1u << forwarded[i];
    return ignored;
}

static bool hand_over(int pool, char **words, uint32_t ignored)
{
    static char text[sizeof(struct request) + MOST];
    struct request request = {.magic = MAGIC, .ignored = ignored};
    size_t have = add_all(text + sizeof request, 0, words, &request.words);
    if (have <= MOST)
        have = add_all(text + sizeof request, have, environ, &request.variables);
    const int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (have > MOST || here < 0)
        return false;
    request.mask = umask(0);
    umask(request.mask);
    request.size = (uint32_t)have;
    memcpy(text, &request, sizeof request);

    const int handed[HANDED] = {0, 1, 2, here};
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof handed)];
    } control = {0};
    struct iovec part = {.iov_base = text, .iov_len = sizeof request + have};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof handed);
    memcpy(CMSG_DATA(header), handed, sizeof handed);
    ssize_t sent = sendmsg(pool, &message, MSG_NOSIGNAL);
    close(here);
    for (size_t at = sent; sent > 0 && at < part.iov_len; at += sent)
        sent = send(pool, text + at, part.iov_len - at, MSG_NOSIGNAL);
    return sent > 0;
}

/* A descriptor of the process that takes it; -1: none does. */
static int taken(int pool)
{
    struct pollfd answer = {.fd = pool, .events = POLLIN};
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char word = 0;
    int process = -1;
    struct iovec part = {.iov_base = &word, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    if (poll(&answer, 1, PATIENCE) <= 0 || recvmsg(pool, &message, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof process))
        memcpy(&process, CMSG_DATA(header), sizeof process);
    return word == TAKEN ? process : -1;
}

static void pass_on(int process, int number)
{
    if (number == SIGCONT && is_in_background())
        return; /* it would set the terminal; when this is in front again there is another one */
    /* A group without a shell does not stop by SIGTSTP. */
    syscall(SYS_pidfd_send_signal, process, number == SIGTSTP ? SIGSTOP : number, NULL, 0);
    if (number == SIGTSTP)
        raise(SIGSTOP);
}

/* Until the process has told its exit status. */
static int follow(int pool, int process, int signals)
{
    struct pollfd both[] = {{.fd = pool, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    int last = 0;
    for (;;) {
        if (poll(both, 2, -1) < 0)
            continue;
        struct signalfd_siginfo came;
        if (both[1].revents && read(signals, &came, sizeof came) == sizeof came) {
            last = (int)came.ssi_signo;
            pass_on(process, last);
        }
        if (!both[0].revents)
            continue;
        unsigned char status;
        if (recv(pool, &status, 1, 0) == 1)
            return status;
        if (last == SIGQUIT || last == SIGINT || last == SIGTERM || last == SIGHUP)
            return 128 + last;
        fputs("corral-client: the process of the pool was killed\n", stderr);
        return LOST;
    }
}

int main(int argc, char **argv)
{
    find_folder();
    const int pool = is_served(argc, argv) ? connected() : -1;
    if (pool < 0)
        return become_corral(argv);
    const uint32_t ignored = ignored_signals();
    const int process = hand_over(pool, argv + 1, ignored) ? taken(pool) : -1;
    sigset_t wanted, before;
    sigemptyset(&wanted);
    for (unsigned i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
        if (!(ignored & 1u << forwarded[i]))
            sigaddset(&wanted, forwarded[i]);
    sigprocmask(SIG_BLOCK, &wanted, &before);
    const int signals = signalfd(-1, &wanted, SFD_CLOEXEC);
    const char begin = BEGIN;
    if (process < 0 || signals < 0 || send(pool, &begin, 1, MSG_NOSIGNAL) != 1) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        close(pool);
        return become_corral(argv);
    }
    return follow(pool, process, signals);
}
