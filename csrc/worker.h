/* Threads of devices. */
#ifndef CORRAL_WORKER_H
#define CORRAL_WORKER_H

#include <pthread.h>
#include <sched.h>

/* Starts a thread that gets no signals, on `cpus`, or where its creator may run if that is NULL. 0 or -errno. */
int corral_worker_start(pthread_t *thread, const cpu_set_t *cpus, void *(*body)(void *), void *argument);

#endif
