/* DISCARD and WRITE_ZEROES on the image itself: the best way that it has, range by range. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>

const uint8_t corral_blk_zeros[CORRAL_BLK_ZEROS] __attribute__((aligned(4096)));

enum { ZERO_PUNCH, ZERO_RANGE, ZERO_WRITE, ZERO_SYNC, ZERO_SYNCED };

static enum corral_blk_next zero_step(struct corral_blk *b, struct corral_blk_request *r)
{
    while (!r->left && r->range < r->n_ranges) {
        const struct corral_blk_range *range = &r->ranges[r->range++];
        r->offset = range->offset;
        r->left = range->length;
        r->phase = r->type == VIRTIO_BLK_T_DISCARD || range->unmap ? ZERO_PUNCH : ZERO_RANGE;
    }
    if (!r->left) {
        if (r->phase == ZERO_SYNCED || !corral_blk_write_through(b))
            return CORRAL_BLK_DONE;
        r->phase = ZERO_SYNC;
        r->call = (struct corral_blk_call){.op = CORRAL_BLK_SYNC, .file = CORRAL_BLK_IMAGE};
        return CORRAL_BLK_CALL;
    }
    if (r->phase == ZERO_WRITE)
        return corral_blk_call_buffer(r, CORRAL_BLK_WRITE, CORRAL_BLK_IMAGE, r->offset, (void *)corral_blk_zeros,
                                      r->left < CORRAL_BLK_ZEROS ? r->left : CORRAL_BLK_ZEROS);
    int mode = r->phase == ZERO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    return corral_blk_call_allocate(r, CORRAL_BLK_IMAGE, corral_blk_piece(r), mode | FALLOC_FL_KEEP_SIZE);
}

/* What a file system or a device says to a way of zeroing that it does not have. */
static bool cannot(int64_t result)
{
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -ENODEV;
}

static void zero_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    switch (r->phase) {
    case ZERO_PUNCH:
    case ZERO_RANGE:
        if (result >= 0)
            corral_blk_advance(r, r->call.length);
        else if (cannot(result) && r->type == VIRTIO_BLK_T_DISCARD)
            corral_blk_advance(r, r->left); /* a discard is advice: nothing is promised about what is read then */
        else if (cannot(result))
            r->phase++;
        else
            corral_blk_fail(r);
        break;
    case ZERO_WRITE:
        if (!corral_blk_moved(r, result))
            break;
        if (b->config.direct)
            result -= result % b->config.block_size;
        corral_blk_advance(r, result);
        if (!result)
            corral_blk_again(r);
        break;
    default:
        r->phase = ZERO_SYNCED;
        if (result < 0) {
            __atomic_store_n(&b->sync_lost, true, __ATOMIC_SEQ_CST);
            corral_blk_fail(r);
        }
    }
}

const struct corral_blk_body corral_blk_zero = {zero_step, zero_took};
