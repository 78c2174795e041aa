/* A trace of one vCPU's exits: a ring that its thread fills and one reader empties. */
#ifndef CORRAL_EXIT_RING_H
#define CORRAL_EXIT_RING_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

struct corral_vcpu;

#define CORRAL_BY_C 0
#define CORRAL_BY_ASSIST 1
#define CORRAL_BY_PYTHON 2

#define CORRAL_CPL_UNKNOWN 0xff

struct corral_exit_record {
    uint64_t time;     /* CLOCK_MONOTONIC when KVM_RUN returned, ns */
    uint64_t address;  /* of IO and MMIO: port or guest physical address; else 0 */
    uint64_t value;    /* that was written, or read, once it is known; of a string access the first element */
    uint64_t rip;      /* as KVM reports it: of IO it may be past the instruction */
    uint32_t guest_ns; /* from entering to the exit; UINT32_MAX: that or longer */
    uint32_t host_ns;  /* from the exit to entering again */
    uint32_t count;    /* elements of a string access */
    uint8_t reason;    /* KVM_EXIT_ */
    uint8_t size;      /* bytes of an element */
    uint8_t write;     /* the guest's, that is: OUT, or a store */
    uint8_t by;        /* CORRAL_BY_ */
    uint8_t cpl;       /* CORRAL_CPL_UNKNOWN when it was not asked for */
    uint8_t reserved[7];
};

struct corral_exit_ring;

/* For `size` records, a power of two. NULL with errno. `with_cpl`: has KVM tell segments at each exit, which costs
 * more than all the rest. `newest`: a full ring loses its oldest record, not the one that comes; it is read only
 * while the vCPU does not run. */
struct corral_exit_ring *corral_exit_ring_create(uint32_t size, bool with_cpl, bool newest);
void corral_exit_ring_destroy(struct corral_exit_ring *ring);

/* Only reasons whose bit is set are recorded; all at first. From any thread. */
void corral_exit_ring_select(struct corral_exit_ring *ring, uint64_t reasons);

/* Moves up to `most` of the oldest records; returns how many. One thread at a time. */
uint32_t corral_exit_ring_take(struct corral_exit_ring *ring, struct corral_exit_record *records, uint32_t most);

/* Exits that found the ring full, so far: they are not in it. */
uint64_t corral_exit_ring_lost(const struct corral_exit_ring *ring);

/* The last exit, after which the guest was not entered again. */
void corral_exit_ring_flush(struct corral_vcpu *v);

/* --- for C alone --- */
/* For the run loop, where a ring is attached. */

void corral_exit_ring_enter(struct corral_vcpu *v);     /* the guest is about to be entered */
void corral_exit_ring_exit(struct corral_vcpu *v);      /* KVM_RUN has returned an exit */
void corral_exit_ring_done_in_c(struct corral_vcpu *v); /* which needs no Python */

#endif
