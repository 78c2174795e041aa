/* virtio-balloon (virtio 1.2, section 5.5): memory that a guest does not use goes back to the host. */
#ifndef CORRAL_BALLOON_H
#define CORRAL_BALLOON_H

#include "queue_worker.h"

/* --- for Python --- */

#define CORRAL_BALLOON_QUEUES 3 /* pages that go into the balloon, pages out of it, and reports of free ones */

struct corral_balloon_stats {
    uint64_t reported_bytes;                 /* that were free */
    uint64_t inflated_pages, deflated_pages; /* of 4 KiB */
    uint64_t refused;                        /* what was no memory of the guest, or none that can go */
};

struct corral_balloon;

/* NULL with errno. */
struct corral_balloon *corral_balloon_create(const struct corral_worker_config *config,
                                             const struct corral_ram *ram, struct corral_virtio_irq *irq);

/* Serves the queues. `resumes`: those of a driver that a device has had before. 0; -EBUSY: runs already; -EINVAL,
 * -EFAULT: the queues. */
int corral_balloon_start(struct corral_balloon *b, uint64_t features, const struct corral_virtq_setup *queues,
                         const int *doorbells, bool resumes);

void corral_balloon_request_stop(struct corral_balloon *b);

/* As corral_worker_stop. */
int corral_balloon_stop(struct corral_balloon *b);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_balloon_destroy(struct corral_balloon *b);

/* Whether the driver has broken a queue. */
bool corral_balloon_failed(const struct corral_balloon *b);

void corral_balloon_stats(const struct corral_balloon *b, struct corral_balloon_stats *stats);

#endif
