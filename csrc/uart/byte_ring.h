/* A ring of bytes of a fixed size. */
#ifndef CORRAL_BYTE_RING_H
#define CORRAL_BYTE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct corral_ring {
    uint8_t *data;
    size_t size, head, used;
};

/* False: it is full. */
static inline bool corral_ring_put(struct corral_ring *r, uint8_t byte)
{
    if (r->used == r->size)
        return false;
    r->data[(r->head + r->used++) % r->size] = byte;
    return true;
}

/* Of one that is not empty. */
static inline uint8_t corral_ring_get(struct corral_ring *r)
{
    uint8_t byte = r->data[r->head];
    r->head = (r->head + 1) % r->size;
    r->used--;
    return byte;
}

/* As the one that is got next. Of one that is not full. */
static inline void corral_ring_put_back(struct corral_ring *r, uint8_t byte)
{
    r->head = (r->head + r->size - 1) % r->size;
    r->data[r->head] = byte;
    r->used++;
}

#endif
