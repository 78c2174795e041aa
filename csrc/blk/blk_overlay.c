/* Copy-on-write: a private file that takes every write, over an image that many may share.
 *
 * The disk is divided into granules of 4 KiB, and a bitmap in memory tells which of them live in the overlay, each
 * at its own offset. A granule moves there with the first write that reaches it and never moves back, so a reader
 * needs no lock for longer than a look at the bitmap: what it sees in the image stays true.
 *
 * Two requests must not move the same granule at once, or the one that fills it up from the image would undo the
 * other. So a request claims those of its next piece that it will move, and one that meets a claim is parked until
 * it is released. It holds one claim at a time, so that no two requests wait for each other. Pieces whose granules
 * have all moved claim nothing.
 *
 * It holds no more than it may (blk_room.c). */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GRANULE CORRAL_BLK_GRANULE

struct corral_overlay {
    uint64_t size;          /* of the disk, bytes */
    uint64_t *layered;      /* a bit a granule: is in the layer below; NULL: there is none */
    uint64_t layer_offset;  /* where that begins in its file */
    pthread_mutex_t lock;   /* all below; taken alone */
    uint64_t *moved, *busy; /* a bit a granule: is in the overlay; is being moved */
    struct corral_blk_request *parked;
    bool no_holes; /* the overlay's file system cannot punch them */
};

enum { PLAIN, WHOLE, FILL, PATCH, PUNCH }; /* phases of a write */

static bool bit(const uint64_t *bits, uint64_t n)
{
    return bits[n / 64] >> (n % 64) & 1;
}

uint64_t corral_blk_map_size(uint64_t size)
{
    return (size / GRANULE / 64 + 1) * sizeof(uint64_t);
}

struct corral_overlay *corral_overlay_create(const struct corral_blk_config *c)
{
    /* Sparse, and as long as the disk: granules that are zero need no write. */
    if (ftruncate(c->overlay_fd, c->size) < 0)
        return NULL;
    struct corral_overlay *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    size_t bytes = corral_blk_map_size(c->size);
    o->size = c->size;
    o->moved = calloc(1, bytes);
    o->busy = calloc(1, bytes);
    o->layered = c->layer_map ? malloc(bytes) : NULL;
    o->layer_offset = c->layer_offset;
    pthread_mutex_init(&o->lock, NULL);
    if (o->layered)
        memcpy(o->layered, c->layer_map, bytes);
    if (o->moved && o->busy && !o->layered == !c->layer_map)
        return o;
    corral_overlay_destroy(o);
    errno = ENOMEM;
    return NULL;
}

void corral_overlay_destroy(struct corral_overlay *o)
{
    if (!o)
        return;
    pthread_mutex_destroy(&o->lock);
    free(o->moved);
    free(o->busy);
    free(o->layered);
    free(o);
}

/* Where a granule ends: the last one may be short. */
static uint64_t end_of(const struct corral_overlay *o, uint64_t granule)
{
    uint64_t end = (granule + 1) * GRANULE;
    return end < o->size ? end : o->size;
}

static bool is_moved(struct corral_overlay *o, uint64_t granule)
{
    pthread_mutex_lock(&o->lock);
    bool moved = bit(o->moved, granule);
    pthread_mutex_unlock(&o->lock);
    return moved;
}

/* Which file has a granule; under the lock, unless nothing moves. */
static unsigned file_of(const struct corral_overlay *o, uint64_t granule)
{
    if (bit(o->moved, granule))
        return CORRAL_BLK_OVERLAY;
    return o->layered && bit(o->layered, granule) ? CORRAL_BLK_LAYER : CORRAL_BLK_IMAGE;
}

uint64_t corral_overlay_run(struct corral_overlay *o, uint64_t offset, uint64_t left, unsigned *file)
{
    uint64_t end = offset + left, at = offset / GRANULE;
    pthread_mutex_lock(&o->lock);
    *file = file_of(o, at);
    while (end_of(o, at) < end && file_of(o, at + 1) == *file)
        at++;
    pthread_mutex_unlock(&o->lock);
    uint64_t reach = end_of(o, at);
    return (reach < end ? reach : end) - offset;
}

static void set_moved(struct corral_overlay *o, uint64_t first, uint64_t end)
{
    pthread_mutex_lock(&o->lock);
    for (uint64_t g = first; g < end; g++)
        o->moved[g / 64] |= 1ull << g % 64;
    pthread_mutex_unlock(&o->lock);
}

void corral_overlay_map(const struct corral_overlay *o, uint64_t *map)
{
    for (uint64_t i = 0; i < corral_blk_map_size(o->size) / sizeof *map; i++)
        map[i] = o->moved[i] | (o->layered ? o->layered[i] : 0);
}

/* --- claims --- */

static bool claim(struct corral_overlay *o, struct corral_blk_request *r)
{
    uint64_t end = r->offset + corral_blk_piece(r);
    if (end < r->offset + r->left)
        end -= end % GRANULE; /* the next piece begins with a granule */
    r->first_granule = r->offset / GRANULE;
    r->last_granule = (end - 1) / GRANULE;
    bool moves = false, meets = false;
    pthread_mutex_lock(&o->lock);
    for (uint64_t g = r->first_granule; g <= r->last_granule && !meets; g++) {
        moves |= !bit(o->moved, g);
        meets = !bit(o->moved, g) && bit(o->busy, g);
    }
    if (meets) {
        r->next = o->parked;
        o->parked = r;
    } else if (moves) {
        for (uint64_t g = r->first_granule; g <= r->last_granule; g++)
            o->busy[g / 64] |= 1ull << g % 64;
        r->claimed = true;
    }
    pthread_mutex_unlock(&o->lock);
    return !meets;
}

void corral_overlay_release(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_overlay *o = b->overlay;
    pthread_mutex_lock(&o->lock);
    /* This may clear the bit of another request as well, of a granule that had moved before ours began. It means
     * nothing: what has moved needs no claim. */
    for (uint64_t g = r->first_granule; g <= r->last_granule; g++)
        o->busy[g / 64] &= ~(1ull << g % 64);
    struct corral_blk_request *parked = o->parked;
    o->parked = NULL;
    pthread_mutex_unlock(&o->lock);
    r->claimed = false;
    while (parked) {
        struct corral_blk_request *next = parked->next;
        b->engine->submit(b, parked);
        parked = next;
    }
}

/* Lets go of a piece that is done, and claims the next. False: the request is parked. */
static bool claims(struct corral_blk *b, struct corral_blk_request *r)
{
    if (r->claimed && (!r->left || r->offset / GRANULE > r->last_granule))
        corral_overlay_release(b, r);
    return !r->left || r->claimed || claim(b->overlay, r);
}

/* What a call may reach: the rest of the piece that claim() looked at. */
static uint64_t reach(const struct corral_overlay *o, const struct corral_blk_request *r)
{
    uint64_t rest = end_of(o, r->last_granule) - r->offset;
    return rest < r->left ? rest : r->left;
}

/* The call that was planned for the disk's offset, as its file has that. */
static enum corral_blk_next in_file(const struct corral_overlay *o, struct corral_blk_request *r)
{
    if (r->call.file == CORRAL_BLK_LAYER)
        r->call.offset += o->layer_offset;
    return CORRAL_BLK_CALL;
}

/* --- READ --- */

static enum corral_blk_next read_step(struct corral_blk *b, struct corral_blk_request *r)
{
    if (!r->left)
        return CORRAL_BLK_DONE;
    unsigned file;
    uint64_t length = corral_overlay_run(b->overlay, r->offset, corral_blk_piece(r), &file);
    corral_blk_call_data(r, CORRAL_BLK_READ, file, length);
    return in_file(b->overlay, r);
}

static void read_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    (void)b;
    if (result > 0)
        corral_blk_advance(r, result);
    else
        corral_blk_fail(r);
}

const struct corral_blk_body corral_overlay_read = {read_step, read_took};

/* --- WRITE, and what is common with WRITE_ZEROES --- */

/* A part of a granule that has not moved: the rest of it comes from below (FILL), then all of it is written
 * (PATCH). The guest's bytes, or zeros, are put in between. */
static enum corral_blk_next move_partly(struct corral_blk *b, struct corral_blk_request *r)
{
    uint64_t granule = r->offset / GRANULE, start = granule * GRANULE, size = end_of(b->overlay, granule) - start;
    if (!corral_blk_get_bounce(r, GRANULE))
        return CORRAL_BLK_DONE;
    if (r->phase != FILL && r->phase != PATCH) {
        r->phase = FILL;
        r->got = 0;
    }
    if (r->phase == FILL && r->got == size) {
        uint64_t n = start + size - r->offset < r->left ? start + size - r->offset : r->left;
        if (r->type == VIRTIO_BLK_T_OUT)
            corral_blk_copy_from_guest(r, r->bounce + (r->offset - start), n);
        else
            memset(r->bounce + (r->offset - start), 0, n);
        r->phase = PATCH;
        r->got = 0;
    }
    bool fill = r->phase == FILL;
    unsigned file = CORRAL_BLK_OVERLAY;
    if (fill)
        corral_overlay_run(b->overlay, start, size, &file);
    corral_blk_call_buffer(r, fill ? CORRAL_BLK_READ : CORRAL_BLK_WRITE, file, start + r->got, r->bounce + r->got,
                           size - r->got);
    return in_file(b->overlay, r);
}

static void partly_took(struct corral_blk *b, struct corral_blk_request *r, uint64_t n)
{
    uint64_t granule = r->offset / GRANULE, end = end_of(b->overlay, granule), size = end - granule * GRANULE;
    r->got += n;
    if (r->phase == FILL || r->got < size)
        return;
    set_moved(b->overlay, granule, granule + 1);
    r->phase = PLAIN;
    corral_blk_advance(r, end - r->offset < r->left ? end - r->offset : r->left);
}

/* How much of a run, which starts a granule, covers granules to their ends. */
static uint64_t whole(const struct corral_overlay *o, uint64_t offset, uint64_t length)
{
    if (offset % GRANULE)
        return 0;
    return offset + length == o->size ? length : length - length % GRANULE;
}

/* Of a write of whole granules that moves them, only what reaches a granule's end counts: the rest of that granule
 * is nowhere yet. */
static void whole_took(struct corral_blk *b, struct corral_blk_request *r, uint64_t n)
{
    n = whole(b->overlay, r->offset, n);
    if (!n) {
        corral_blk_again(r);
        return;
    }
    set_moved(b->overlay, r->offset / GRANULE, (r->offset + n + GRANULE - 1) / GRANULE);
    corral_blk_advance(r, n);
}

static enum corral_blk_next write_step(struct corral_blk *b, struct corral_blk_request *r)
{
    if (!r->left)
        return CORRAL_BLK_DONE;
    if (r->phase == FILL || r->phase == PATCH)
        return move_partly(b, r);
    if (!claims(b, r))
        return CORRAL_BLK_PARKED;
    unsigned file;
    uint64_t length = corral_overlay_run(b->overlay, r->offset, reach(b->overlay, r), &file);
    bool moved = file == CORRAL_BLK_OVERLAY;
    if (!moved) {
        length = whole(b->overlay, r->offset, length);
        if (!length)
            return move_partly(b, r);
    }
    r->phase = moved ? PLAIN : WHOLE;
    return corral_blk_call_data(r, CORRAL_BLK_WRITE, CORRAL_BLK_OVERLAY, length);
}

static void write_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    if (result <= 0)
        corral_blk_fail(r);
    else if (r->phase == FILL || r->phase == PATCH)
        partly_took(b, r, result);
    else if (r->phase == WHOLE)
        whole_took(b, r, result);
    else
        corral_blk_advance(r, result);
}

const struct corral_blk_body corral_overlay_write = {write_step, write_took};

/* --- DISCARD and WRITE_ZEROES --- */

/* The next range. Of a discard only whole granules are worth anything. */
static void next_range(struct corral_overlay *o, struct corral_blk_request *r)
{
    const struct corral_blk_range *range = &r->ranges[r->range++];
    uint64_t start = range->offset, end = start + range->length;
    if (r->type == VIRTIO_BLK_T_DISCARD) {
        start = (start + GRANULE - 1) & ~(GRANULE - 1);
        end = end == o->size ? end : end & ~(GRANULE - 1);
    }
    r->offset = start;
    r->left = end > start ? end - start : 0;
    r->phase = PLAIN;
}

static enum corral_blk_next zero_step(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_overlay *o = b->overlay;
    if (r->phase == FILL || r->phase == PATCH)
        return move_partly(b, r);
    if (!r->left && r->claimed)
        corral_overlay_release(b, r);
    while (!r->left && r->range < r->n_ranges)
        next_range(o, r);
    if (!r->left)
        return CORRAL_BLK_DONE;
    if (!claims(b, r))
        return CORRAL_BLK_PARKED;
    uint64_t length = whole(o, r->offset, reach(o, r));
    if (length && !__atomic_load_n(&o->no_holes, __ATOMIC_RELAXED)) {
        r->phase = PUNCH;
        return corral_blk_call_allocate(r, CORRAL_BLK_OVERLAY, length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    }
    if (!length) { /* up to the granule's end, or of the range */
        if (!is_moved(o, r->offset / GRANULE))
            return move_partly(b, r);
        length = end_of(o, r->offset / GRANULE) - r->offset;
        length = length < r->left ? length : r->left;
        r->phase = PLAIN;
    } else {
        length = length < CORRAL_BLK_ZEROS ? length : CORRAL_BLK_ZEROS;
        r->phase = WHOLE;
    }
    return corral_blk_call_buffer(r, CORRAL_BLK_WRITE, CORRAL_BLK_OVERLAY, r->offset, (void *)corral_blk_zeros,
                                  length);
}

static void zero_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    struct corral_overlay *o = b->overlay;
    if (r->phase != PUNCH) {
        write_took(b, r, result);
        return;
    }
    if (result == -EOPNOTSUPP || result == -ENOSYS)
        __atomic_store_n(&o->no_holes, true, __ATOMIC_RELAXED);
    else if (result < 0)
        corral_blk_fail(r);
    else
        whole_took(b, r, r->call.length);
}

const struct corral_blk_body corral_overlay_zero = {zero_step, zero_took};
