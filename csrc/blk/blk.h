/* virtio-blk's data plane: from a queue's doorbell to its interrupt (virtio 1.2 section 5.2).
 *
 * The transport sets features and queues up and starts it; from then on threads of ours serve the queues. */
#ifndef CORRAL_BLK_H
#define CORRAL_BLK_H

#include "queue_worker.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* Engines. io_uring: corral_blk_create fails with ENOSYS where it was not built in or the host refuses it. */
#define CORRAL_BLK_URING 0
#define CORRAL_BLK_THREADS 1 /* a pool of threads and plain system calls; everywhere */
#define CORRAL_BLK_NULL 2    /* every request succeeds at once and moves no data: for benchmarks */

/* What a transport puts into the configuration space. */
#define CORRAL_BLK_SEG_MAX 254                /* data segments of a request */
#define CORRAL_BLK_RANGES_MAX 16              /* of one DISCARD or WRITE_ZEROES */
#define CORRAL_BLK_RANGE_SECTORS_MAX 0x400000 /* 2 GiB, in one of these ranges */

/* Bounds of what the host is asked for, so that it has soon done it: bytes of one call that moves data, and of one
 * that allocates; bytes of all calls of a disk. */
#define CORRAL_BLK_CALL_MAX (1u << 20)
#define CORRAL_BLK_ALLOCATE_MAX (16u << 20)
#define CORRAL_BLK_IN_FLIGHT_MAX (16u << 20)

#define CORRAL_BLK_LATENCY_BUCKETS 40

#define CORRAL_BLK_GRANULE 4096ull /* bytes that an overlay has, or has not */

/* Descriptors in here stay the caller's and must be open until corral_blk_destroy. */
struct corral_blk_config {
    struct corral_worker_config worker;
    int fd;         /* the image: a regular file or a block device */
    int overlay_fd; /* -1: none. Else an empty private file that takes every write; fd is only read then */
    /* Not NULL: what the overlay of an earlier disk had, which is only read: at `layer_offset` of the file, a
     * multiple of CORRAL_BLK_GRANULE, and on, where the map has the bit of a granule. Needed until create returns.
     */
    const uint64_t *layer_map;
    uint64_t layer_offset;
    int layer_fd;
    uint64_t overlay_most; /* bytes that the overlay may hold; 0: as many as the disk has */
    uint64_t size;         /* bytes, a multiple of 512 */
    uint32_t block_size;   /* of fd where it is O_DIRECT: power of two, 512 to 4096; else a hint */
    bool read_only;
    bool write_through; /* every write is on stable storage before it completes, whatever the guest negotiates */
    bool direct;        /* fd is O_DIRECT; not together with an overlay */
    char id[20];        /* what GET_ID says; padded with zeros */
    uint16_t n_queues;
    uint16_t queue_size;                       /* the most descriptors of one; 0: CORRAL_VIRTQ_SIZE_MAX */
    unsigned engine;                           /* CORRAL_BLK_URING, ... */
    unsigned n_threads;                        /* of CORRAL_BLK_THREADS; 0: four */
    uint64_t ops_per_second, bytes_per_second; /* 0: no limit */

    /* For tests: every Nth call of the backend fails with fault_errno without being made or, when that is 0, moves
     * a third of its bytes. 0: never. With a fault_seed it is a call in N, drawn, and one of these faults: a short
     * transfer, EIO, ENOSPC, EINTR. */
    unsigned fault_every;
    int fault_errno;
    uint64_t fault_seed;
    /* For tests: a file, opened with O_APPEND, that gets a corral_blk_record when a call is about to be made, with
     * the data of a write after it, one when its result is there, and one when a request is about to be answered.
     * 0: none. */
    int record_fd;
    bool false_flush; /* For tests of tests: FLUSH is answered and nothing is synced. */
};

/* Counters of one queue, from creation on. */
struct corral_blk_stats {
    uint64_t reads, writes, flushes, discards, write_zeroes, get_ids, others; /* completed, with any status */
    uint64_t read_bytes, written_bytes;                                       /* of those that succeeded */
    uint64_t errors;                                                          /* completed with IOERR */
    uint64_t refused;                                                         /* completed with UNSUPP */
    uint64_t merged;                              /* whose call was made as part of another's */
    uint64_t interrupts, interrupts_saved;        /* used index publications with an interrupt and without */
    uint64_t rounds;                              /* looks at the queue that found something */
    uint64_t latency[CORRAL_BLK_LATENCY_BUCKETS]; /* [n]: 2^n to 2^(n+1) ns from being popped to being pushed */
};

struct corral_blk_record {
    uint64_t request;  /* tells those that are in flight apart */
    uint32_t op, file; /* read 0, write 1, sync 2, allocate 3; image 0, overlay 1, layer 2 */
    uint32_t flags;    /* RWF_ or FALLOC_FL_ */
    uint32_t done;     /* 0: about to be made; 1: this is its result */
    uint64_t offset, length;
    int64_t result; /* bytes, or -errno */
};

/* The op of an answer, which the driver sees no earlier than its record. file: the queue; flags: the request's
 * type; offset: the head of its chain; length: bytes of data; result: the status. */
#define CORRAL_BLK_RECORD_ANSWER 4

/* What a stopped disk knows of its driver and image beside the queues; each 0 or 1. */
struct corral_blk_saved {
    uint8_t write_through; /* the driver's choice, not the configuration's */
    uint8_t sync_lost;     /* no later FLUSH succeeds */
    uint8_t shrunk;        /* the image was found shorter than the disk */
};

/* Why the host failed what the driver asked for; zeros: it has not. */
struct corral_blk_trouble {
    int error;         /* the first errno that a call got which moves data or makes it stable */
    uint32_t file;     /* of that call: image 0, overlay 1 */
    bool overlay_full; /* it holds overlay_most */
    bool shrunk;       /* the image was found shorter than the disk */
};

struct corral_blk;

/* All that a disk needs of the host it gets here. NULL with errno: EINVAL, ENOMEM, ENOSYS (this engine, here), or
 * what the host said to a thread, a ring or the overlay. */
struct corral_blk *corral_blk_create(const struct corral_blk_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq);

/* Serves the queues that are ready, n_queues of each array. `features` as negotiated. `saved`: goes on with a
 * driver that another disk, or this one, has had; NULL: with one that begins. 0; -EBUSY: runs already; -EINVAL,
 * -EFAULT: a queue, or a state that there is not; -ENOMEM. Nothing is opened and no thread is made. */
int corral_blk_start(struct corral_blk *b, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, const struct corral_blk_saved *saved);

/* As corral_worker_hold: a stop fails what was taken, and after this there is nothing to fail. */
int corral_blk_hold(struct corral_blk *b);

/* After a hold and a stop that gave 0. */
void corral_blk_save(const struct corral_blk *b, struct corral_blk_saved *saved);

/* Bytes of a map with a bit for each granule of a disk of `size` bytes. */
uint64_t corral_blk_map_size(uint64_t size);

/* Writes what a disk with an overlay has that its image has not into a file: the map at `map_at`, and each granule
 * at its own offset from `data_at` on; zeros stay holes. The file is long enough. As corral_blk_save. Returns how
 * many bytes of granules were written, or -errno. */
int64_t corral_blk_save_layer(const struct corral_blk *b, int fd, uint64_t map_at, uint64_t data_at);

/* Begins to stop: takes no more requests, and makes no more calls for those it has. Many disks are asked first and
 * waited for after. */
void corral_blk_request_stop(struct corral_blk *b);

/* Requests a stop and waits for the calls that the host is making, for CORRAL_WORKER_STOP_NS from the request on.
 * 0: nothing of ours touches guest memory any more, and start may follow. -ETIMEDOUT: the host has not answered;
 * its answers may still reach guest memory, and the descriptors and the RAM must stay. Call it again to look
 * again. In any state. */
int corral_blk_stop(struct corral_blk *b);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_blk_destroy(struct corral_blk *b);

/* True when a queue broke since the last start: the device needs a reset. */
bool corral_blk_failed(const struct corral_blk *b);

/* The writeback field of the configuration space (section 5.2.4), true at the start. False makes what is written
 * so far stable before it returns; -errno when that failed. */
int corral_blk_set_writeback(struct corral_blk *b, bool on);

/* Counters of queue `index` as they are now. -EINVAL: no such queue. */
int corral_blk_stats(const struct corral_blk *b, unsigned index, struct corral_blk_stats *stats);

/* As it is now. */
void corral_blk_trouble(const struct corral_blk *b, struct corral_blk_trouble *trouble);

/* Whether CORRAL_BLK_URING was built in. */
bool corral_blk_has_uring(void);

/* 0: it was, and this host lets us use it; else -ENOSYS. */
int corral_blk_uring_probe(void);

/* For tests: what a disk's ring says to an operation (IORING_OP_) on no file; -EACCES: it takes none of these. */
int corral_blk_uring_try(unsigned operation);

#endif
