/* virtio-rng (virtio 1.2, section 5.4): the driver's buffers are filled with the host's random bytes. */
#ifndef CORRAL_RNG_H
#define CORRAL_RNG_H

#include "queue_worker.h"

/* --- for Python --- */

#define CORRAL_RNG_MOST 4096  /* bytes of one buffer that are filled; the driver may ask again */
#define CORRAL_RNG_LEAST 256u /* that a buffer counts as, so that small ones cost no more than the rate allows */

struct corral_rng_config {
    struct corral_worker_config worker;
    uint64_t bytes_per_second; /* 0: no limit */
};

struct corral_rng_stats {
    uint64_t buffers, bytes;
};

struct corral_rng;

/* NULL with errno. */
struct corral_rng *corral_rng_create(const struct corral_rng_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq);

/* Serves the queue. `resumes`: that of a driver that a device has had before. 0; -EBUSY: runs already; -EINVAL,
 * -EFAULT: the queue. */
int corral_rng_start(struct corral_rng *r, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, bool resumes);

void corral_rng_request_stop(struct corral_rng *r);

/* As corral_worker_stop. */
int corral_rng_stop(struct corral_rng *r);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_rng_destroy(struct corral_rng *r);

/* Whether the driver has broken its queue. */
bool corral_rng_failed(const struct corral_rng *r);

void corral_rng_stats(const struct corral_rng *r, struct corral_rng_stats *stats);

#endif
