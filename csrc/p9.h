/* virtio-9p: messages of 9P2000.L go from a queue to a server's socket, and answers back.
 *
 * What a message means is the server's affair, but for its length, its tag, the one that takes another back, and,
 * where a share is to be read, which of them only look. */
#ifndef CORRAL_P9_H
#define CORRAL_P9_H

#include "memory.h"
#include "virtio_irq.h"
#include "virtq.h"

#include <stdbool.h>
#include <stdint.h>

#define CORRAL_P9_QUEUE_SIZE 128
/* Longer ones are refused. Linux makes its own as long as a queue's buffers are: less than 500 KiB. */
#define CORRAL_P9_MESSAGE_MAX (1u << 20)

struct corral_p9;

/* NULL: no memory. */
struct corral_p9 *corral_p9_create(const struct corral_ram *ram, struct corral_virtio_irq *irq);

/* Serves the queue. `server_fd` is a connected stream socket, the caller's; stop shuts it down. `read_only`: what
 * would change anything is refused and does not get to the server. `cpus` is a bit for each that its threads may
 * use, no words for where the caller may run. 0; -EBUSY: runs already; -EINVAL, -EFAULT: the queue; or what
 * starting threads gave. */
int corral_p9_start(struct corral_p9 *p, uint64_t features, const struct corral_virtq_setup *queue, int kick_fd,
                    int server_fd, bool read_only, const uint64_t *cpus, unsigned n_words);

/* Returns when nothing of ours touches guest memory any more. In any state; start may follow. */
void corral_p9_stop(struct corral_p9 *p);

/* Stops first. NULL is allowed. */
void corral_p9_destroy(struct corral_p9 *p);

/* Whether the driver has broken its queue. */
bool corral_p9_failed(const struct corral_p9 *p);

/* Messages answered by the server, and those that got an error from here instead. */
uint64_t corral_p9_answered(const struct corral_p9 *p);
uint64_t corral_p9_refused(const struct corral_p9 *p);

#endif
