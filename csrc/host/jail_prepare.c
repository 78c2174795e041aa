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
#include <spawn.h>
#include <stdlib.h>
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

static int spawn_at(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, const int *high)
{
    sigset_t none;
    pid_t pid = 0;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(attributes, &none); /* this thread has all blocked */
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK);
    int error = 0;
    for (unsigned i = 0; i < prepared.n && !error; i++)
        error = posix_spawn_file_actions_adddup2(actions, high[i], FIRST_PLACE + (int)i);
    if (!error)
        error = posix_spawn(&pid, prepared.words[0], actions, attributes, prepared.words, environ);
    return error ? -error : pid;
}

static int spawn(void)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int high[CORRAL_JAIL_GIVEN_MAX], result = 0;
    unsigned n = 0;
    /* None is where another is to be. */
    for (; n < prepared.n && result >= 0; n++) {
        high[n] = fcntl(prepared.given[n], F_DUPFD_CLOEXEC, FIRST_PLACE + CORRAL_JAIL_GIVEN_MAX);
        result = high[n] < 0 ? -errno : 0;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    if (result >= 0)
        result = spawn_at(&actions, &attributes, high);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
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
    if (prepared.begun || n > CORRAL_JAIL_GIVEN_MAX)
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
