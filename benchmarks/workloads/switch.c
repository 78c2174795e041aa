/* From one process to another and back, on one CPU: a byte through two pipes, and a futex that two threads share.
 * switch [SECONDS] */
#define _GNU_SOURCE
#include "common.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int there[2], back[2];
static _Atomic uint32_t turn; /* 0: ours, 1: the other's, 2: the end */

static void passing(long count)
{
    char byte = 0;
    while (count--)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            fail("pipe");
}

static void wait_while(uint32_t value)
{
    while (atomic_load(&turn) == value)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void give(uint32_t value)
{
    atomic_store(&turn, value);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void waking(long count)
{
    while (count--) {
        give(1);
        wait_while(1);
    }
}

static void *other(void *unused)
{
    for (;;) {
        wait_while(0);
        if (atomic_load(&turn) == 2)
            return unused;
        give(0);
    }
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1) / 2;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu() < 0 ? 0 : sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one))
        fail("sched_setaffinity");
    if (pipe(there) || pipe(back))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (!child) {
        char byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
            ;
        _exit(0);
    }
    told("process-switch", one_of(passing, seconds) / 2 * 1e6, "us");
    close(there[1]);
    int status;
    if (waitpid(child, &status, 0) != child || status)
        end(1, words[0], "the child failed");
    pthread_t thread;
    if ((errno = pthread_create(&thread, NULL, other, NULL)))
        fail("pthread_create");
    told("thread-switch", one_of(waking, seconds) / 2 * 1e6, "us");
    give(2);
    pthread_join(thread, NULL);
    return 0;
}
