/* The process that stays outside of the server's jail, so that there is an end to one that a guest has taken over:
 * the VMM is in a jail of its own by then, and can signal no process. */
#define _GNU_SOURCE
#include "jail.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 200 /* that a server may take to end after its connection has */

static bool ends(struct pollfd *child, int ms)
{
    return poll(child, 1, ms) > 0;
}

/* Whether it had to be killed. */
static bool see_it_out(pid_t pid)
{
    struct pollfd on[2] = {{.fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN},
                           {.fd = P9_SOCKET, .events = POLLRDHUP}};
    for (;;) {
        if (poll(on, 2, -1) < 0)
            continue;
        if (on[0].revents)
            return false;
        if (on[1].revents & POLLNVAL)
            on[1].fd = -1; /* there is none where the jail is only told of */
        else if (on[1].revents)
            break;
    }
    if (ends(on, PATIENCE_MS))
        return false;
    kill(pid, SIGKILL);
    return true;
}

_Noreturn void p9_watch_over(pid_t child)
{
    int status;
    close_range(P9_SOCKET + 1, ~0u, 0);
    prctl(PR_SET_DUMPABLE, 0); /* no core when it ends by the child's signal */
    const bool killed = see_it_out(child);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status) && !killed) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SUCCESS);
}
