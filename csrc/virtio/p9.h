/* virtio-9p: messages of 9P2000.L go from a queue to a server's socket, and answers back.
 *
 * What a message means is the server's affair (p9server/), but for its length, its tag, and the one that takes
 * another back. */
#ifndef CORRAL_P9_H
#define CORRAL_P9_H

#include "p9_message.h"
#include "queue_worker.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_P9_QUEUE_SIZE 128

struct corral_p9;

/* NULL with errno. `server_fd` is a stream socket to the server, the caller's, for as long as there is this. */
struct corral_p9 *corral_p9_create(const struct corral_worker_config *config, int server_fd,
                                   const struct corral_ram *ram, struct corral_virtio_irq *irq);

/* Serves the queue, from the second start on with a new session of the same server (p9_line.h). 0; -EBUSY: runs
 * already; -EINVAL, -EFAULT: the queue. */
int corral_p9_start(struct corral_p9 *p, uint64_t features, const struct corral_virtq_setup *queues,
                    const int *doorbells);

void corral_p9_request_stop(struct corral_p9 *p);

/* 0: nothing of ours touches guest memory any more, and start may follow. -ETIMEDOUT: call again. Waits for
 * CORRAL_WORKER_STOP_NS from the request on, in any state. */
int corral_p9_stop(struct corral_p9 *p);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_p9_destroy(struct corral_p9 *p);

/* Whether the driver has broken its queue. */
bool corral_p9_failed(const struct corral_p9 *p);

/* Messages answered by the server, and those that got an error from here instead. */
uint64_t corral_p9_answered(const struct corral_p9 *p);
uint64_t corral_p9_refused(const struct corral_p9 *p);

#endif
