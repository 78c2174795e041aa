/* One split virtqueue, seen from the device (virtio 1.2 section 2.7). */
#include "virtq.h"

#include <errno.h>

/* The total of a chain is below this (section 2.7.5: at most 2^32 bytes), so that lengths fit the used ring. */
#define CHAIN_BYTES_MAX UINT32_MAX

/* An indirect table may lie at any address. Volatile: what is checked and what is used must be the same load. */
typedef uint64_t __attribute__((aligned(1), may_alias)) unaligned_u64;

struct table {
    const uint8_t *entries;
    uint32_t count;
};

static struct vring_desc read_descriptor(const struct table *t, uint16_t index)
{
    const volatile unaligned_u64 *words = (const void *)(t->entries + sizeof(struct vring_desc) * index);
    uint64_t address = words[0], rest = words[1];
    return (struct vring_desc){.addr = address, .len = rest, .flags = rest >> 32, .next = rest >> 48};
}

int corral_virtq_init(struct corral_virtq *q, const struct corral_ram *ram, uint16_t size, uint64_t desc,
                      uint64_t avail, uint64_t used, bool event_idx, bool indirect)
{
    if (!size || size > CORRAL_VIRTQ_SIZE_MAX || (size & (size - 1)))
        return -EINVAL;
    if (desc % VRING_DESC_ALIGN_SIZE || avail % VRING_AVAIL_ALIGN_SIZE || used % VRING_USED_ALIGN_SIZE)
        return -EINVAL;
    struct vring ring = {.num = size};
    ring.desc = corral_ram_at(ram, desc, sizeof(struct vring_desc) * size);
    /* With the event word at the end of each, whether it is negotiated or not: section 2.7 gives it its place. */
    ring.avail = corral_ram_at(ram, avail, sizeof(struct vring_avail) + sizeof(uint16_t) * (size + 1));
    ring.used = corral_ram_at(
        ram, used, sizeof(struct vring_used) + sizeof(struct vring_used_elem) * size + sizeof(uint16_t));
    if (!ring.desc || !ring.avail || !ring.used)
        return -EFAULT;
    *q = (struct corral_virtq){
        .ram = ram, .ring = ring, .size = size, .event_idx = event_idx, .indirect = indirect};
    return 0;
}

void corral_virtq_resume(struct corral_virtq *q)
{
    uint16_t used = __atomic_load_n(&q->ring.used->idx, __ATOMIC_ACQUIRE);
    q->next_avail = q->seen_avail = used;
    q->next_used = q->published = q->told = used;
}

static bool add_segment(struct corral_virtq *q, struct corral_chain *chain, const struct vring_desc *d)
{
    unsigned n = chain->n_read + chain->n_write;
    bool write = d->flags & VRING_DESC_F_WRITE;
    void *at = corral_ram_at(q->ram, d->addr, d->len);
    if (!at || !d->len || n == CORRAL_CHAIN_SEGMENTS)
        return false;
    if (!write && chain->n_write) /* readable ones come first (section 2.7.4.2) */
        return false;
    if (chain->read_size + chain->write_size + d->len > CHAIN_BYTES_MAX)
        return false;
    chain->iov[n] = (struct iovec){.iov_base = at, .iov_len = d->len};
    if (write) {
        chain->n_write++;
        chain->write_size += d->len;
    } else {
        chain->n_read++;
        chain->read_size += d->len;
    }
    return true;
}

/* Follows a chain. A loop ends at CORRAL_CHAIN_SEGMENTS as a chain that is too long does. */
static bool collect(struct corral_virtq *q, struct corral_chain *chain, uint16_t head)
{
    struct table t = {.entries = (const void *)q->ring.desc, .count = q->size};
    bool inside = false; /* of an indirect table */
    for (uint16_t index = head;;) {
        if (index >= t.count)
            return false;
        struct vring_desc d = read_descriptor(&t, index);
        if (d.flags & VRING_DESC_F_INDIRECT) {
            /* Sections 2.7.5.3.1 and 2.7.5.3.2: the last of a chain, not nested, and its WRITE flag means nothing.
             */
            if (!q->indirect || inside || (d.flags & VRING_DESC_F_NEXT))
                return false;
            if (!d.len || d.len % sizeof(struct vring_desc))
                return false;
            t.entries = corral_ram_at(q->ram, d.addr, d.len);
            t.count = d.len / sizeof(struct vring_desc);
            if (!t.entries)
                return false;
            inside = true;
            index = 0;
            continue;
        }
        if (!add_segment(q, chain, &d))
            return false;
        if (!(d.flags & VRING_DESC_F_NEXT))
            return true;
        index = d.next;
    }
}

static int broken(struct corral_virtq *q)
{
    q->broken = true;
    return -EPROTO;
}

int corral_virtq_pop(struct corral_virtq *q, struct corral_chain *chain)
{
    if (q->broken)
        return -EPROTO;
    if (q->next_avail == q->seen_avail) {
        /* Acquire: pairs with the driver's barrier between filling the ring and moving idx (section 2.7.13.3). */
        uint16_t avail = __atomic_load_n(&q->ring.avail->idx, __ATOMIC_ACQUIRE);
        uint16_t added = avail - q->next_avail;
        uint16_t outstanding = avail - __atomic_load_n(&q->next_used, __ATOMIC_RELAXED);
        /* There are `size` descriptors, so at most as many chains are with the device at any time. */
        if (added > q->size || outstanding > q->size)
            return broken(q);
        if (!added)
            return 0;
        q->seen_avail = avail;
    }
    uint16_t head = __atomic_load_n(&q->ring.avail->ring[q->next_avail & (q->size - 1)], __ATOMIC_RELAXED);
    chain->head = head;
    chain->n_read = chain->n_write = 0;
    chain->read_size = chain->write_size = 0;
    if (head >= q->size || !collect(q, chain, head))
        return broken(q);
    q->next_avail++;
    return 1;
}

void corral_virtq_put_back(struct corral_virtq *q, uint16_t n)
{
    q->next_avail -= n;
}

unsigned corral_virtq_in_flight(const struct corral_virtq *q)
{
    return (uint16_t)(q->next_avail - __atomic_load_n(&q->next_used, __ATOMIC_ACQUIRE));
}

bool corral_virtq_has_more(const struct corral_virtq *q)
{
    return __atomic_load_n(&q->ring.avail->idx, __ATOMIC_RELAXED) != q->next_avail;
}

void corral_virtq_push(struct corral_virtq *q, uint16_t head, uint32_t written)
{
    struct vring_used_elem *element = &q->ring.used->ring[q->next_used & (q->size - 1)];
    element->id = head;
    element->len = written;
    __atomic_store_n(&q->next_used, q->next_used + 1, __ATOMIC_RELAXED);
}

void corral_virtq_publish(struct corral_virtq *q)
{
    /* Release: the elements and what was written to the buffers come first. Pairs with the driver's read barrier
     * between idx and the elements (section 2.7.14). */
    __atomic_store_n(&q->ring.used->idx, q->next_used, __ATOMIC_RELEASE);
    q->published = q->next_used;
}

bool corral_virtq_wants_interrupt(const struct corral_virtq *q)
{
    if (q->told == q->published)
        return false;
    /* Store-load: pairs with the driver's barrier between enabling interrupts (used_event or flags) and looking at
     * idx once more (section 2.7.14). One of the two sees the other's store. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (q->event_idx)
        return vring_need_event(__atomic_load_n(&vring_used_event(&q->ring), __ATOMIC_RELAXED), q->published,
                                q->told);
    return !(__atomic_load_n(&q->ring.avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool corral_virtq_tell(struct corral_virtq *q)
{
    bool wanted = corral_virtq_wants_interrupt(q);
    q->told = q->published;
    return wanted;
}

bool corral_virtq_listen(struct corral_virtq *q)
{
    if (q->event_idx)
        __atomic_store_n(&vring_avail_event(&q->ring), q->next_avail, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&q->ring.used->flags, 0, __ATOMIC_RELAXED);
    /* Store-load: pairs with the driver's barrier between moving avail idx and reading avail_event or the used
     * flags (section 2.7.13.4). Without it both could miss each other, and the chain would wait for the next one.
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return corral_virtq_has_more(q);
}

void corral_virtq_ignore(struct corral_virtq *q)
{
    /* With event_idx, avail_event stays behind and the driver is silent until it has gone once around. */
    if (!q->event_idx)
        __atomic_store_n(&q->ring.used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}
