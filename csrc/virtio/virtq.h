/* One split virtqueue, seen from the device (virtio 1.2 section 2.7).
 *
 * What is in the rings is the guest's and may change at any time. Each value is read once, checked, and then used;
 * the buffers that a chain names are used where they are, since their content is the guest's own affair. */
#ifndef CORRAL_VIRTQ_H
#define CORRAL_VIRTQ_H

#include "memory.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define CORRAL_VIRTQ_SIZE_MAX 1024
/* A chain of more breaks the queue. Devices tell drivers less than this (seg_max). */
#define CORRAL_CHAIN_SEGMENTS 256

/* --- for Python --- */

/* One thread pops, listens and ignores. Pushing and publishing is for one thread at a time, which need not be the
 * one that pops. */
struct corral_virtq {
    const struct corral_ram *ram;
    uint16_t size;
    uint16_t next_avail; /* the next chain to pop */
    uint16_t seen_avail; /* avail->idx when it was last read: chains up to here are there */
    uint16_t next_used;  /* where the next used element goes; atomic, the popping thread reads it */
    uint16_t published;  /* used->idx as the driver sees it */
    uint16_t told;       /* used->idx of the last corral_virtq_tell */
    bool event_idx, indirect;
    bool broken;
    /* --- for C alone --- */
    struct vring ring; /* host addresses, checked once: RAM stays where it is */
};

/* A chain in host memory. All of its segments are RAM and none is empty. */
struct corral_chain {
    uint16_t head;
    uint16_t n_read, n_write;       /* segments: device-readable, then device-writable */
    uint64_t read_size, write_size; /* bytes; together less than 4 GiB */
    /* --- for C alone --- */
    struct iovec iov[CORRAL_CHAIN_SEGMENTS];
};

/* As a driver has set a queue up: guest physical addresses, not checked yet. */
struct corral_virtq_setup {
    uint16_t size;
    bool ready; /* false: the driver does not use this queue */
    uint64_t desc, avail, used;
};

/* A queue with nothing in flight, both indices 0. -EINVAL: the size is no power of two up to 1024 or a part is not
 * aligned (section 2.7); -EFAULT: a part is not RAM. */
int corral_virtq_init(struct corral_virtq *q, const struct corral_ram *ram, uint16_t size, uint64_t desc,
                      uint64_t avail, uint64_t used, bool event_idx, bool indirect);

/* Of a queue that was set up: goes on behind what the used ring says was given back, as if nothing else had been
 * taken. For a device that gives back in the order in which it takes, or has nothing in flight. */
void corral_virtq_resume(struct corral_virtq *q);

/* 1: a chain; 0: there is none; -EPROTO: the rings make no sense, and the queue is broken for good. */
int corral_virtq_pop(struct corral_virtq *q, struct corral_chain *chain);

/* The last `n` that were popped are as if they never were: the next pop gives them again. None of them was pushed.
 */
void corral_virtq_put_back(struct corral_virtq *q, uint16_t n);

/* How many chains were popped and not pushed. By the thread that pops. */
unsigned corral_virtq_in_flight(const struct corral_virtq *q);

/* Whether there is one, or a sign that the rings make no sense: a look that costs next to nothing. */
bool corral_virtq_has_more(const struct corral_virtq *q);

/* Gives a popped chain back, `written` bytes of it written; the driver does not see it before the next publish. */
void corral_virtq_push(struct corral_virtq *q, uint16_t head, uint32_t written);

/* Shows the driver what was pushed. */
void corral_virtq_publish(struct corral_virtq *q);

/* Whether the driver wants an interrupt for what was published since it was last told. */
bool corral_virtq_wants_interrupt(const struct corral_virtq *q);

/* The same, and it counts as told. */
bool corral_virtq_tell(struct corral_virtq *q);

/* Asks the driver for a notification when it adds a chain. True: it has already added one, look again. */
bool corral_virtq_listen(struct corral_virtq *q);

/* Tells the driver that notifications are not needed: somebody looks anyway. Only advice. */
void corral_virtq_ignore(struct corral_virtq *q);

#endif
