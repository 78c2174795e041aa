#define _GNU_SOURCE
#include "thread.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int corral_thread_start(pthread_t *thread, const cpu_set_t *cpus, void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    /* Not those of its creator: that is a vCPU's thread, which may be pinned. */
    if (cpus)
        pthread_attr_setaffinity_np(&attributes, sizeof *cpus, cpus);
    /* Signals are for the threads that run vCPUs and Python. A thread's own are SIGSYS, of its filter, and SIGBUS,
     * of guest memory whose file is cut off (ram_file.c): blocked, they would end the process without a word. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSYS);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

void corral_name_thread(const char *name)
{
    char cut[16];
    strncpy(cut, name, sizeof cut - 1);
    cut[sizeof cut - 1] = 0;
    pthread_setname_np(pthread_self(), cut);
}

void corral_end_with_parent(int parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        raise(SIGKILL);
}
