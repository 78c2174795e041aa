/* READ and WRITE on the image itself. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <linux/virtio_blk.h>
#include <sys/uio.h>

#define BOUNCE (256 * 1024)

/* --- the guest's buffers go to the file as they are --- */

static enum corral_blk_next transfer_step(struct corral_blk *b, struct corral_blk_request *r)
{
    if (!r->left)
        return CORRAL_BLK_DONE;
    bool write = r->type == VIRTIO_BLK_T_OUT;
    corral_blk_call_data(r, write ? CORRAL_BLK_WRITE : CORRAL_BLK_READ, CORRAL_BLK_IMAGE, corral_blk_piece(r));
    if (write && corral_blk_write_through(b))
        r->call.flags = RWF_DSYNC;
    return CORRAL_BLK_CALL;
}

static void transfer_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    if (!corral_blk_moved(r, result))
        return;
    uint64_t n = result;
    if (b->config.direct && n < r->left)
        n -= n % b->config.block_size; /* what is left must stay aligned */
    if (n)
        corral_blk_advance(r, n);
    else
        corral_blk_again(r);
}

const struct corral_blk_body corral_blk_transfer = {transfer_step, transfer_took};

/* --- through a buffer of ours, where O_DIRECT wants alignment that the guest's buffers do not have --- */

bool corral_blk_aligned(const struct corral_blk *b, const struct corral_blk_request *r)
{
    uint64_t all = r->offset | r->left;
    for (unsigned i = 0; i < r->n_iov; i++)
        all |= (uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len;
    return !(all & (b->config.block_size - 1));
}

static enum corral_blk_next bounce_step(struct corral_blk *b, struct corral_blk_request *r)
{
    if (!r->left || !corral_blk_get_bounce(r, BOUNCE))
        return CORRAL_BLK_DONE;
    uint64_t mask = b->config.block_size - 1;
    if (r->type == VIRTIO_BLK_T_IN) {
        uint64_t from = r->offset & ~mask, length = ((r->offset + r->left + mask) & ~mask) - from;
        return corral_blk_call_buffer(r, CORRAL_BLK_READ, CORRAL_BLK_IMAGE, from, r->bounce,
                                      length < BOUNCE ? length : BOUNCE);
    }
    uint64_t length = r->left < BOUNCE ? r->left : BOUNCE;
    corral_blk_copy_from_guest(r, r->bounce, length);
    corral_blk_call_buffer(r, CORRAL_BLK_WRITE, CORRAL_BLK_IMAGE, r->offset, r->bounce, length);
    if (corral_blk_write_through(b))
        r->call.flags = RWF_DSYNC;
    return CORRAL_BLK_CALL;
}

static void bounce_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    if (!corral_blk_moved(r, result))
        return;
    uint64_t before = r->type == VIRTIO_BLK_T_IN ? r->offset - r->call.offset : 0;
    uint64_t n = (uint64_t)result > before ? (uint64_t)result - before : 0;
    if (n > r->left)
        n = r->left;
    if (r->type == VIRTIO_BLK_T_IN)
        corral_blk_copy_to_guest(r, r->bounce + before, n);
    else
        corral_blk_advance(r, n -= n % b->config.block_size);
    if (!n)
        corral_blk_again(r);
}

const struct corral_blk_body corral_blk_bounce = {bounce_step, bounce_took};
