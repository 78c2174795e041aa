/* When to sleep, and when to interrupt. */
#ifdef CORRAL_HAVE_URING

#include "blk_uring.h"

/* Of looking at the queues without sleeping; ns. */
#define SPIN 60000 /* what a driver needs for its next request, and for the doorbell that ended our last sleep */
#define LOOKS_LEFT_OUT 63 /* at most, after some that were in vain: then they cost a microsecond a sleep */

/* Interrupts are held back for so many requests, or bytes, or ns, at most. */
#define UNTOLD 16
#define UNTOLD_BYTES (128 * 1024)
#define HELD_BACK 500000

#define LONGEST_GAP 300000 /* ns, between two requests of one burst */
#define SHORTEST_PATIENCE 2000

void corral_uring_publish(struct corral_uring *u)
{
    for (unsigned i = 0; i < u->b->config.n_queues; i++)
        if (u->b->queues[i].served.ready)
            corral_blk_publish(&u->b->queues[i]);
}

void corral_uring_tell(struct corral_uring *u)
{
    for (unsigned i = 0; i < u->b->config.n_queues; i++)
        if (u->b->queues[i].served.ready)
            corral_blk_tell(u->b, &u->b->queues[i]);
    u->untold_since = u->untold_bytes = 0;
}

/* --- looking, instead of sleeping: to be woken takes longer than most drivers take for their next request --- */

static bool has_news(const struct corral_uring *u)
{
    const struct corral_blk *b = u->b;
    if (io_uring_cq_ready(&u->ring) || corral_worker_stopping(&b->worker))
        return true;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        const struct corral_blk_queue *q = &b->queues[i];
        if (q->served.ready && !q->served.vq.broken && corral_virtq_has_more(&q->served.vq))
            return true;
    }
    return false;
}

static bool look(struct corral_uring *u, struct corral_look *l, uint64_t ns)
{
    if (l->left_out < l->leave_out) {
        l->left_out++;
        return false;
    }
    l->left_out = 0;
    uint64_t end = corral_worker_now() + ns;
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (has_news(u)) {
                l->leave_out = 0;
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (corral_worker_now() < end);
    l->leave_out = 2 * l->leave_out + 1;
    if (l->leave_out > LOOKS_LEFT_OUT)
        l->leave_out = LOOKS_LEFT_OUT;
    return false;
}

bool corral_uring_spin(struct corral_uring *u)
{
    return look(u, &u->spin, SPIN);
}

/* --- interrupts, which are what a disk in memory costs a guest most --- */

bool corral_uring_is_late(struct corral_uring *u)
{
    unsigned untold = 0;
    for (unsigned i = 0; i < u->b->config.n_queues; i++) {
        const struct corral_blk_queue *q = &u->b->queues[i];
        untold += q->served.ready ? (uint16_t)(q->served.vq.published - q->served.vq.told) : 0;
    }
    if (untold && !u->untold_since)
        u->untold_since = u->now;
    return untold >= UNTOLD || u->untold_bytes >= UNTOLD_BYTES || (untold && u->now - u->untold_since > HELD_BACK);
}

/* A driver that is busy adding requests gets one interrupt for several: it is held back while they come no slower
 * than they did of late. True: another one came. */
bool corral_uring_hold(struct corral_uring *u)
{
    bool wanted = false;
    for (unsigned i = 0; i < u->b->config.n_queues; i++)
        wanted |= u->b->queues[i].served.ready && corral_virtq_wants_interrupt(&u->b->queues[i].served.vq);
    return wanted && look(u, &u->hold, 2 * u->gap > SHORTEST_PATIENCE ? 2 * u->gap : SHORTEST_PATIENCE);
}

/* A running mean of the time between requests, pauses left out. */
void corral_uring_learn_gap(struct corral_uring *u, unsigned n)
{
    uint64_t gap = (u->now - u->last_taken) / n;
    if (gap < LONGEST_GAP)
        u->gap += (int64_t)(gap - u->gap) / 8;
    u->last_taken = u->now;
}

#endif
