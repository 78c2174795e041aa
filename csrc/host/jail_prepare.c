/* What of the jail takes a while, on a thread of its own: a start has other things to do meanwhile, and waits for
 * the host's kernel to make the VM. */
#define _GNU_SOURCE
#include "jail.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_PLACE 3 /* of a process that is started: behind the standard descriptors */

extern char **environ;

static struct {
    char *const *words; /* NULL: no process */
    int given[CORRAL_JAIL_GIVEN_MAX];
    unsigned n;
    pthread_t thread;
    bool begun;
    pid_t tid;
    struct corral_jail_prepared result;
} prepared = {.result = {.network = -ENOENT}};

/* In the child of vfork, which runs in this process's memory: system calls, and nothing else. Returns if it fails.
 */
static void become_process(const int *high)
{
    for (unsigned i = 0; i < prepared.n; i++)
        if (dup2(high[i], FIRST_PLACE + (int)i) < 0)
            return;
    execve(prepared.words[0], prepared.words, environ);
}

/* By vfork, and not by posix_spawn, which asks for the handler of each signal and has memory of its own for that.
 * This thread has signals blocked, so none of its handlers runs in the child; the program unblocks them. */
static int spawn_at(const int *high)
{
    static int error;
    error = 0;
    const pid_t pid = vfork();
    if (pid == 0) {
        become_process(high);
        error = errno;
        _exit(127);
    }
    if (pid < 0)
        return -errno;
    if (!error)
        return pid;
    waitpid(pid, NULL, 0);
    return -error;
}

static int spawn(void)
{
    int high[CORRAL_JAIL_GIVEN_MAX] = {0}, result = 0;
    unsigned n = 0;
    /* None is where another is to be. */
    for (; n < prepared.n && result >= 0; n++) {
        high[n] = fcntl(prepared.given[n], F_DUPFD_CLOEXEC, FIRST_PLACE + CORRAL_JAIL_GIVEN_MAX);
        result = high[n] < 0 ? -errno : 0;
    }
    if (result >= 0)
        result = spawn_at(high);
    while (n--)
        if (high[n] >= 0)
            close(high[n]);
    return result;
}

static int new_network(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void *prepare(void *nothing)
{
    corral_name_thread("jail");
    prepared.tid = gettid();
    if (prepared.words)
        prepared.result.pid = spawn();
    prepared.result.network = new_network();
    return nothing;
}

int corral_jail_prepare(char *const *words, const int *given, unsigned n)
{
    if (prepared.begun || (!words && prepared.tid) || n > CORRAL_JAIL_GIVEN_MAX)
        return -EINVAL;
    prepared.words = words;
    prepared.n = n;
    for (unsigned i = 0; i < n; i++)
        prepared.given[i] = given[i];
    const int error = corral_thread_start(&prepared.thread, NULL, prepare, NULL);
    prepared.begun = !error;
    return error;
}

void corral_jail_await(struct corral_jail_prepared *result)
{
    if (prepared.begun) {
        pthread_join(prepared.thread, NULL);
        while (tgkill(getpid(), prepared.tid, 0) == 0) /* else it would be asked to give its rights up */
            sched_yield();
    }
    prepared.begun = false;
    *result = prepared.result;
}

int corral_jail_take_network(void)
{
    return prepared.result.network;
}
