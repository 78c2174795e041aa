/* What serves a device's queues: its threads, its doorbells and its end. A device has one of these; what it does
 * with a chain is its own affair.
 *
 * Its threads are made with the device and wait for a start, so that neither start nor stop makes or ends one: a
 * driver causes those, and the threads of vCPUs, which make them then, need no right to. A start is
 * corral_worker_begin, corral_worker_queue for each queue, and corral_worker_serve. The threads look at
 * corral_worker_stopping, and sleep in corral_worker_wait. */
#ifndef CORRAL_QUEUE_WORKER_H
#define CORRAL_QUEUE_WORKER_H

#include "jail.h"
#include "memory.h"
#include "virtio_irq.h"
#include "virtq.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_CPU_WORDS 16              /* of 64 CPUs: 1,024, as in a cpu_set_t */
#define CORRAL_WORKER_STOP_NS 400000000u /* that a stop waits */
#define CORRAL_WORKER_HOLD_NS 5000000000 /* that a hold waits */

struct corral_worker_config {
    char name[16];                   /* of the threads */
    uint64_t cpus[CORRAL_CPU_WORDS]; /* they run on these, a bit each; none: where their creator may */
    int broken_fd;                   /* an eventfd that is signalled when the driver breaks a queue; -1: none */
};

/* --- for C alone --- */

#define CORRAL_WORKER_EXTRA 16 /* descriptors that a device waits for besides its doorbells */

/* A queue that is served; part of what the device knows of it. */
struct corral_served_queue {
    struct corral_virtq vq;
    unsigned index;
    int doorbell; /* an eventfd, the transport's; several queues may have the same */
    bool ready;   /* the driver uses this queue */
};

struct corral_queue_worker {
    enum corral_jail_kind kind;
    struct corral_worker_config config;
    const struct corral_ram *ram;
    struct corral_virtio_irq *irq;
    struct corral_served_queue *queues[CORRAL_VIRTIO_QUEUES_MAX];
    unsigned n_queues;
    uint64_t features;    /* as negotiated */
    int wake_fd;          /* an eventfd, signalled by a stop and by corral_worker_wake */
    uint64_t stop_by;     /* ns: when a stop has waited long enough */
    bool running;         /* atomic */
    bool stopping;        /* atomic */
    bool failed;          /* atomic: the driver has broken a queue */
    bool held;            /* atomic: nothing more is taken */
    pthread_mutex_t lock; /* all below; taken alone */
    pthread_cond_t changed;
    struct corral_worker_thread *threads; /* a list */
    unsigned starts;                      /* so far */
    unsigned busy;                        /* threads that serve, or prepare to */
    bool idle;                            /* since it is held: nothing is in flight */
    bool quit;
};

/* 0 or -errno; corral_worker_destroy in either case, of a worker that does not run. That ends its threads. `kind`:
 * of their filter, in the jail. */
int corral_worker_init(struct corral_queue_worker *w, enum corral_jail_kind kind,
                       const struct corral_worker_config *config, const struct corral_ram *ram,
                       struct corral_virtio_irq *irq);
void corral_worker_destroy(struct corral_queue_worker *w);

/* -EBUSY: it runs already. */
int corral_worker_begin(struct corral_queue_worker *w, uint64_t features);

/* The next queue, with nothing in flight. -EINVAL, -EFAULT: it lies where no queue can be (corral_virtq_init). */
int corral_worker_queue(struct corral_queue_worker *w, struct corral_served_queue *q,
                        const struct corral_virtq_setup *setup, int doorbell);

/* After the queues, before a thread serves: they go on with a driver that a device has had before
 * (corral_virtq_resume). */
void corral_worker_resume(struct corral_queue_worker *w);

/* Makes a thread, on the CPUs of the configuration, with this name, or the configuration's if that is NULL. It
 * calls `prepare` at once, unless that is NULL, and `serve` from each start on; this returns when it is ready. 0,
 * -errno, or what `prepare` returned if that is not 0: there is no such thread then. Before the first start. */
int corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                             void (*serve)(void *), void *argument);

/* All threads serve, until each returns, which it does soon when the worker stops. After corral_worker_begin. */
void corral_worker_serve(struct corral_queue_worker *w);

bool corral_worker_running(const struct corral_queue_worker *w);

/* Begins to stop, in any state. */
void corral_worker_request_stop(struct corral_queue_worker *w);

/* Requests a stop and waits for the threads, until w->stop_by. 0: none of them serves, and a start may follow.
 * -ETIMEDOUT: call again. In any state. */
int corral_worker_stop(struct corral_queue_worker *w);

/* For a device that fails at a stop what it has taken: it takes nothing more, and this waits until nothing is in
 * flight, for CORRAL_WORKER_HOLD_NS. 0: so it is until the next start, and a stop fails nothing. -ETIMEDOUT: it
 * goes on as before. In any state. */
int corral_worker_hold(struct corral_queue_worker *w);

/* The CPUs that threads are to run on. False: any. */
bool corral_worker_cpus(const struct corral_queue_worker *w, cpu_set_t *cpus);

/* --- for its threads --- */

bool corral_worker_stopping(const struct corral_queue_worker *w);

/* Whether nothing is to be taken: to be asked before each chain. Where that can be, the thread that takes says
 * when nothing is in flight. */
bool corral_worker_held(const struct corral_queue_worker *w);
void corral_worker_is_idle(struct corral_queue_worker *w);

/* Has the thread that waits look again. From any thread. */
void corral_worker_wake(struct corral_queue_worker *w);

/* Waits for a doorbell, a stop, a wake, or one of `extra`, at most CORRAL_WORKER_EXTRA, which get their revents.
 * Doorbells that rang are silent again. One thread of a worker waits. */
void corral_worker_wait(struct corral_queue_worker *w, struct pollfd *extra, unsigned n_extra);

/* Waits for a stop or a wake, at most `ns`. */
void corral_worker_sleep(struct corral_queue_worker *w, uint64_t ns);

/* Interrupts the driver for what was published of a queue, if it wants that. Returns whether. */
bool corral_worker_tell(struct corral_queue_worker *w, struct corral_served_queue *q);

/* The driver has broken a queue: from now on the device needs a reset, and the driver is told so. */
void corral_worker_break(struct corral_queue_worker *w);

/* Whether that has happened since the last start. */
bool corral_worker_failed(const struct corral_queue_worker *w);

/* CLOCK_MONOTONIC, in ns. */
uint64_t corral_worker_now(void);

#endif
