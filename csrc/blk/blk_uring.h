/* The io_uring engine from the inside: one thread, its ring, and what it knows. The ring is the thread's from the
 * making of the disk to its end, and empty between a stop and the next start.
 *
 * blk_uring.c has the thread and its rounds, blk_uring_calls.c makes requests' calls and takes their results,
 * blk_uring_pacing.c knows when to sleep and when to interrupt. */
#ifndef CORRAL_BLK_URING_H
#define CORRAL_BLK_URING_H

#include "blk_device.h"

#include <liburing.h>

#define CORRAL_URING_ENTRIES 256
#define CORRAL_URING_SCRATCH 4096

/* Looks in vain make the next ones rarer, and one that found something makes them the rule again. */
struct corral_look {
    unsigned leave_out, left_out; /* how many; of these so far */
};

struct corral_uring {
    struct corral_blk *b;
    struct io_uring ring;
    bool has_ring;

    /* A start forgets the rest, but for `scratch`. */
    unsigned polls, cancels;                  /* that the ring has */
    struct corral_blk_request *ready, **last; /* were parked, may go on */
    unsigned in_flight;                       /* taken and not yet finished, and */
    uint64_t bytes_in_flight;                 /* what their calls may move at a time */
    uint64_t now;                             /* ns, when the round began */
    bool cancelled;                           /* what is with the host, by a stop */

    /* --- blk_uring_calls.c --- */
    unsigned round_calls; /* made or planned since the last reap, and */
    uint64_t round_bytes; /* what they move */
    /* Calls that follow one another in the file, to be made as one; not yet in the ring. Linked by next_in_run. */
    struct corral_blk_request *run, *run_last;
    unsigned run_segments;
    uint64_t run_bytes;
    struct corral_blk_request *made, **made_last; /* calls that were made here; their results wait to be reaped */
    uint64_t no_writes_before;                    /* ns: the last one here was slow */

    /* --- blk_uring_pacing.c --- */
    struct corral_look spin, hold;
    uint64_t last_taken, gap, untold_since, untold_bytes; /* ns, but for the last */

    /* Buffers of calls for several requests, until they are submitted: the kernel has its own copy then
     * (IORING_FEAT_SUBMIT_STABLE). */
    unsigned scratch_used;
    struct iovec *scratch; /* CORRAL_URING_SCRATCH of them */
};

/* --- blk_uring_calls.c --- */

struct io_uring_sqe *corral_uring_sqe(struct corral_uring *u);
/* Gives the kernel what is in the ring. */
void corral_uring_submit(struct corral_uring *u);
/* Goes on with a request until it is finished, parked, or a call of it is planned. */
void corral_uring_go_on(struct corral_uring *u, struct corral_blk_request *r);
/* Makes planned calls that were waiting for others to follow. */
void corral_uring_end_run(struct corral_uring *u);
/* Takes the result of a call, which may be that of several requests. */
void corral_uring_result(struct corral_uring *u, struct corral_blk_request *r, int64_t result);
/* Takes the results of calls that were made at once. False: there are none. */
bool corral_uring_reap_made(struct corral_uring *u);
/* Whether a round has as much to do as is good: what is finished wants to be told. */
bool corral_uring_round_is_full(const struct corral_uring *u);

/* --- blk_uring_pacing.c --- */

/* Shows drivers what is finished. */
void corral_uring_publish(struct corral_uring *u);
/* Interrupts those who want that. */
void corral_uring_tell(struct corral_uring *u);
/* Whether interrupts were held back for as many requests as may be, or as long. */
bool corral_uring_is_late(struct corral_uring *u);
/* Waits, before it interrupts, for a driver that is busy adding requests. True: another one came. */
bool corral_uring_hold(struct corral_uring *u);
/* Looks at the queues for a while, before it sleeps. True: something came. */
bool corral_uring_spin(struct corral_uring *u);
/* n requests were taken in this round. */
void corral_uring_learn_gap(struct corral_uring *u, unsigned n);

#endif
