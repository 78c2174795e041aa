/* Threads of ours. */
#ifndef CORRAL_THREAD_H
#define CORRAL_THREAD_H

#include <pthread.h>
#include <sched.h>

/* Starts a thread that gets no signals, on `cpus`, or where its creator may run if that is NULL. 0 or -errno. */
int corral_thread_start(pthread_t *thread, const cpu_set_t *cpus, void *(*body)(void *), void *argument);

/* --- for Python --- */

/* Names the calling thread for ps, top and /proc; cut at 15 bytes. */
void corral_name_thread(const char *name);

/* Has the kernel kill this process when its parent, the process `parent`, ends, or has ended already. */
void corral_end_with_parent(int parent);

#endif
