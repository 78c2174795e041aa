/* A disk from the inside: what its requests, its overlay and its engines share.
 *
 * A request is a plan: corral_blk_step tells the next backend call, the engine makes it, and corral_blk_result
 * takes what came of it, until there is nothing left to do. So short transfers, retries, bounce buffers, overlay
 * and durability are in one place, and an engine knows only how to make calls. */
#ifndef CORRAL_BLK_DEVICE_H
#define CORRAL_BLK_DEVICE_H

#include "blk.h"
#include "limit.h"
#include "queue_worker.h"

#include <stddef.h>

struct corral_blk_request;
struct corral_blk_queue;
struct corral_overlay;
struct corral_blk_room;

enum corral_blk_op { CORRAL_BLK_READ, CORRAL_BLK_WRITE, CORRAL_BLK_SYNC, CORRAL_BLK_ALLOCATE };
enum { CORRAL_BLK_IMAGE, CORRAL_BLK_OVERLAY, CORRAL_BLK_LAYER, CORRAL_BLK_FILES };

/* One call of the backend. */
struct corral_blk_call {
    enum corral_blk_op op;
    unsigned file; /* index in corral_blk.files */
    uint64_t offset, length;
    struct iovec *iov; /* of READ and WRITE: exactly `length` bytes */
    unsigned n_iov;
    int flags; /* RWF_ of WRITE, FALLOC_FL_ of ALLOCATE */
};

enum corral_blk_next {
    CORRAL_BLK_CALL,   /* make request->call, then corral_blk_result, then step again */
    CORRAL_BLK_DONE,   /* corral_blk_finish */
    CORRAL_BLK_PARKED, /* waits for another request, whose end submits it again */
};

/* How a kind of request goes about it. `took` gets the result of the call that `step` planned: bytes, or -errno.
 */
struct corral_blk_body {
    enum corral_blk_next (*step)(struct corral_blk *b, struct corral_blk_request *r);
    void (*took)(struct corral_blk *b, struct corral_blk_request *r, int64_t result);
};

struct corral_blk_range {
    uint64_t offset, length;
    bool unmap;
};

struct corral_blk_request {
    struct corral_blk_request *next;        /* in whatever list it is */
    struct corral_blk_request *next_in_run; /* of calls that are made as one */
    struct corral_blk_queue *queue;
    const struct corral_blk_body *body; /* NULL: nothing to do but to finish */
    uint32_t type;
    uint8_t status, *status_at; /* status_at NULL: the driver left no room for it */
    uint32_t written;           /* used length when it succeeds */
    uint64_t bytes;             /* of data, for the counters */
    uint64_t popped;            /* ns */
    unsigned retries;

    uint64_t offset, left; /* bytes on the disk that are still to be done, and */
    struct iovec *iov;     /* the guest's buffers for them */
    unsigned n_iov;
    struct iovec *cut; /* the buffer that the call in flight does not use to its end, and its real length */
    size_t cut_length;

    unsigned phase; /* the body's own, as are: */
    uint64_t got;
    bool claimed;
    uint64_t first_granule, last_granule;
    uint8_t *bounce; /* freed at the end */
    struct iovec small;
    unsigned n_ranges, range;
    struct corral_blk_range ranges[CORRAL_BLK_RANGES_MAX];

    struct corral_blk_call call;
    int64_t result; /* of a call that was made already, until corral_blk_result gets it: the engine's own */
    struct corral_chain chain;
};

struct corral_blk_queue {
    struct corral_blk *blk;
    struct corral_served_queue served;
    pthread_mutex_t lock; /* of free, pushing and counters, if several threads serve the disk; taken alone */
    struct corral_blk_request *requests, *free;
    struct corral_blk_stats stats;
};

struct corral_blk_engine {
    /* Makes b->engine_state, and the worker's threads; all that it needs of the host it gets here. -errno. */
    int (*create)(struct corral_blk *b);
    /* Also after a create that failed, if that left b->engine_state. The threads have ended. */
    void (*destroy)(struct corral_blk *b);
    /* Nothing is in flight; the threads serve next. */
    void (*start)(struct corral_blk *b);
    /* Goes on with a request that was parked, later: not before this returns. */
    void (*submit)(struct corral_blk *b, struct corral_blk_request *r);
};

extern const struct corral_blk_engine corral_blk_uring, corral_blk_threads, corral_blk_null;

struct corral_blk {
    struct corral_blk_config config;
    struct corral_queue_worker worker;
    const struct corral_blk_engine *engine;
    struct corral_overlay *overlay; /* NULL: none */
    struct corral_blk_room *room;   /* of the overlay */
    int files[CORRAL_BLK_FILES];
    bool shared;    /* by several threads, so that the queues' locks are needed */
    bool writeback; /* atomic */
    /* atomic: a sync failed, and what it should have made stable may be gone. No later FLUSH can be true, since
     * the kernel reports such a failure only once. */
    bool sync_lost;
    bool resizable;   /* the image is a file */
    bool shrunk;      /* atomic: it was found shorter than the disk */
    uint64_t calls;   /* atomic; for faults */
    uint64_t trouble; /* atomic: file and errno of the first call that failed; 0: none has */
    struct corral_limit ops, bytes;
    void *engine_state;
    struct corral_blk_queue queues[];
};

/* --- for engines: blk.c --- */

/* Asks for doorbells. True: a queue has something already. */
bool corral_blk_listen(struct corral_blk *b);

/* --- of a request: blk_request.c --- */

/* The next request of a queue, ready for its first step: 1. 0: there is none; < 0: the queue is broken. `now` in
 * ns. */
int corral_blk_take(struct corral_blk *b, struct corral_blk_queue *q, uint64_t now, struct corral_blk_request **r);

/* Writes the status and gives the chain back; the driver sees it at the next corral_blk_publish. The request is
 * free for another chain when this returns. Under the queue's lock if the engine shares it. */
void corral_blk_finish(struct corral_blk_request *r, uint64_t now);

/* Shows the driver what was finished. Locked likewise. */
void corral_blk_publish(struct corral_blk_queue *q);

/* Interrupts the driver for what was published, if it wants that. Locked likewise. */
void corral_blk_tell(struct corral_blk *b, struct corral_blk_queue *q);

/* How long the disk is to take nothing, by its rate limits or a hold, in ns; 0: it may. By the thread that takes.
 */
uint64_t corral_blk_held_back(struct corral_blk *b, uint64_t now);

/* --- the plan: blk_plan.c --- */

/* Chooses the body of a request whose type, status_at, offset, left, iov and ranges are set. */
void corral_blk_plan(struct corral_blk *b, struct corral_blk_request *r);

enum corral_blk_next corral_blk_step(struct corral_blk *b, struct corral_blk_request *r);
void corral_blk_result(struct corral_blk *b, struct corral_blk_request *r, int64_t result);

/* Looks whether the image is as long as it was. To be called between the end of a call and corral_blk_result. */
void corral_blk_measure(struct corral_blk *b);

/* Records the answer that a request is about to get. Only where there is a record_fd. */
void corral_blk_record_answer(const struct corral_blk_request *r);

/* To be called before the planned call is made. < 0: it is not to be made, this is its result. */
int64_t corral_blk_before_call(struct corral_blk *b, struct corral_blk_request *r);

/* What of the rest of a request a call may reach, and the most that any call of it does. */
uint64_t corral_blk_piece(const struct corral_blk_request *r);
uint64_t corral_blk_weight(const struct corral_blk_request *r);

/* Plans the call for the first `length` of what is left, from or to the guest's buffers. */
enum corral_blk_next corral_blk_call_data(struct corral_blk_request *r, enum corral_blk_op op, unsigned file,
                                          uint64_t length);
/* Plans a call with `length` bytes at `buffer`. */
enum corral_blk_next corral_blk_call_buffer(struct corral_blk_request *r, enum corral_blk_op op, unsigned file,
                                            uint64_t offset, void *buffer, uint64_t length);
enum corral_blk_next corral_blk_call_allocate(struct corral_blk_request *r, unsigned file, uint64_t length,
                                              int mode);

/* Passes the first n bytes of what is left. */
void corral_blk_advance(struct corral_blk_request *r, uint64_t n);
void corral_blk_copy_to_guest(struct corral_blk_request *r, const uint8_t *from, size_t n); /* and passes them */
void corral_blk_copy_from_guest(struct corral_blk_request *r, uint8_t *to, size_t n);       /* and does not */
/* A buffer of `size` bytes for this request. False: there is none, and the request has failed. */
bool corral_blk_get_bounce(struct corral_blk_request *r, size_t size);
void corral_blk_fail(struct corral_blk_request *r);
/* A call moved nothing that counts: false when that has happened too often, and the request has failed. */
bool corral_blk_again(struct corral_blk_request *r);

/* Section 5.2.6.2: without FLUSH negotiated, or with writeback off, a write is stable when it completes. */
bool corral_blk_write_through(const struct corral_blk *b);
/* False: the request has failed, since nothing moved: a read past the end of an image that was truncated, or a
 * device that is full. */
bool corral_blk_moved(struct corral_blk_request *r, int64_t result);
/* Whether O_DIRECT would take the guest's buffers as they are. */
bool corral_blk_aligned(const struct corral_blk *b, const struct corral_blk_request *r);

extern const struct corral_blk_body corral_blk_transfer, corral_blk_bounce, corral_blk_zero;

/* Zeros to write, aligned for O_DIRECT. */
#define CORRAL_BLK_ZEROS 65536
extern const uint8_t corral_blk_zeros[CORRAL_BLK_ZEROS];

/* --- copy-on-write: blk_overlay.c --- */
struct corral_overlay *corral_overlay_create(const struct corral_blk_config *c); /* NULL with errno */
void corral_overlay_destroy(struct corral_overlay *o);
/* How much of [offset, offset + left) lies in one file, and in which. */
uint64_t corral_overlay_run(struct corral_overlay *o, uint64_t offset, uint64_t left, unsigned *file);
/* What is not in the image, as corral_blk_config.layer_map says it; while nothing moves. */
void corral_overlay_map(const struct corral_overlay *o, uint64_t *map);
extern const struct corral_blk_body corral_overlay_read, corral_overlay_write, corral_overlay_zero;
/* Lets go of what a request claimed; requests that were parked meanwhile are submitted again. */
void corral_overlay_release(struct corral_blk *b, struct corral_blk_request *r);

/* --- how much an overlay may hold: blk_room.c --- */
struct corral_blk_room *corral_blk_room_create(const struct corral_blk_config *c); /* NULL with errno */
void corral_blk_room_destroy(struct corral_blk_room *room);
/* To be called before something is written there. False: it would hold more than corral_blk_config.overlay_most.
 */
bool corral_blk_room_take(struct corral_blk_room *room, uint64_t offset, uint64_t length);
bool corral_blk_room_is_full(struct corral_blk_room *room); /* something was refused */

#endif
