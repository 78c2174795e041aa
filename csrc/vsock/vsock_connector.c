/* The process that connects a guest's programs to Unix sockets of the host. The VMM can do so no more when its
 * guest runs (docs/security.md), and what this one can do then is to connect to PATH_PORT for a port that it is
 * told, and to remove PATH when the VMM is gone. */
#define _GNU_SOURCE
#include "thread.h"
#include "vsock_device.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SUFFIX 12 /* "_4294967295" */

/* A socket, or -errno. */
static int connect_to(const struct sockaddr_un *base, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s_%u", (int)(sizeof address.sun_path - SUFFIX),
             base->sun_path, port);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    const int error = -errno;
    close(fd);
    return error;
}

static void answer(int line, struct corral_vsock_question *question, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {question, sizeof *question};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    question->error = fd < 0 ? -fd : 0;
    if (fd >= 0) {
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof fd);
    }
    if (sendmsg(line, &message, MSG_NOSIGNAL) < 0) {
        /* Nobody is left to hear of it: the next receive says so. */
    }
    if (fd >= 0)
        close(fd);
}

static void be_connector(int line, const struct sockaddr_un *base, const struct corral_ram *ram)
{
    struct corral_vsock_question question;
    const int kept = 3;
    /* Its end is the VMM's. */
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    const uint64_t high = ram->high_end ? ram->high_end - CORRAL_HIGH_BASE : 0;
    munmap(ram->host, ram->low_end + high);
    const int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, 0);
    dup2(nothing, 1);
    if (line != kept)
        dup2(line, kept);
    if (syscall(SYS_close_range, kept + 1, ~0u, 0) < 0)
        for (int fd = kept + 1; fd < 1 << 16; fd++)
            close(fd);
    corral_name_thread("corral-connect");
    if (corral_jail_hide() < 0 || corral_jail_tell(false) < 0 ||
        corral_jail_filter(CORRAL_JAIL_CONNECTOR, false) < 0)
        _exit(CORRAL_JAIL_STATUS);
    for (ssize_t got; (got = recv(kept, &question, sizeof question, 0)) != 0;) {
        if (got == sizeof question && question.token == CORRAL_VSOCK_ENDS)
            break;
        else if (got == sizeof question)
            answer(kept, &question, connect_to(base, question.port));
        else if (got < 0 && errno != EINTR)
            break;
    }
    unlink(base->sun_path);
    _exit(0);
}

int corral_vsock_connector(const char *path, const struct corral_ram *ram)
{
    struct sockaddr_un base = {.sun_family = AF_UNIX};
    int line[2];
    if (strlen(path) + SUFFIX >= sizeof base.sun_path)
        return -ENAMETOOLONG;
    strcpy(base.sun_path, path);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) < 0)
        return -errno;
    /* By way of another, so that it is not ours to wait for. */
    const pid_t between = fork();
    if (between == 0) {
        const pid_t child = fork();
        if (child == 0)
            be_connector(line[1], &base, ram);
        _exit(child < 0);
    }
    int status = 1;
    const int error = between < 0 ? errno : 0;
    close(line[1]);
    while (between > 0 && waitpid(between, &status, 0) < 0 && errno == EINTR)
        ;
    if (between < 0 || status != 0) {
        close(line[0]);
        return -(error ? error : EAGAIN);
    }
    return line[0];
}
