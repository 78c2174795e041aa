/* Written by the vCPU's thread, read by another: one index each, and nobody waits. */
#include "exit_ring.h"
#include "guest_mode.h"
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct corral_exit_ring {
    uint32_t mask;
    bool with_cpl, newest;
    uint64_t reasons; /* atomic */
    uint64_t entered; /* ns; 0: not yet */
    bool open;        /* `now` has an exit that was not finished yet */
    uint32_t head;    /* atomic: next to be written, counts on and wraps */
    uint32_t tail;    /* atomic: next to be read */
    uint64_t lost;    /* atomic */
    struct corral_exit_record now;
    struct corral_exit_record records[];
};

static uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint32_t clamped(uint64_t ns)
{
    return ns < UINT32_MAX ? ns : UINT32_MAX;
}

struct corral_exit_ring *corral_exit_ring_create(uint32_t size, bool with_cpl, bool newest)
{
    if (!size || size & (size - 1) || size > 1u << 26) {
        errno = EINVAL;
        return NULL;
    }
    struct corral_exit_ring *ring = calloc(1, sizeof *ring + (size_t)size * sizeof ring->records[0]);
    if (!ring)
        return NULL;
    ring->mask = size - 1;
    ring->with_cpl = with_cpl;
    ring->newest = newest;
    ring->reasons = UINT64_MAX;
    return ring;
}

void corral_exit_ring_destroy(struct corral_exit_ring *ring)
{
    free(ring);
}

void corral_exit_ring_select(struct corral_exit_ring *ring, uint64_t reasons)
{
    __atomic_store_n(&ring->reasons, reasons, __ATOMIC_RELAXED);
}

uint32_t corral_exit_ring_take(struct corral_exit_ring *ring, struct corral_exit_record *records, uint32_t most)
{
    uint32_t tail = ring->tail;
    /* Acquire: pairs with the release in put(); the records before head are whole. */
    uint32_t there = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) - tail;
    uint32_t n = there < most ? there : most;
    for (uint32_t i = 0; i < n; i++)
        records[i] = ring->records[(tail + i) & ring->mask];
    /* Release: the records are copied before their places are free; pairs with the acquire in put(). */
    __atomic_store_n(&ring->tail, tail + n, __ATOMIC_RELEASE);
    return n;
}

uint64_t corral_exit_ring_lost(const struct corral_exit_ring *ring)
{
    return __atomic_load_n(&ring->lost, __ATOMIC_RELAXED);
}

static void put(struct corral_exit_ring *ring)
{
    uint32_t head = ring->head;
    if (head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) > ring->mask) {
        __atomic_store_n(&ring->lost, ring->lost + 1, __ATOMIC_RELAXED);
        if (!ring->newest)
            return;
        ring->tail++;
    }
    ring->records[head & ring->mask] = ring->now;
    __atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE);
}

static void describe_access(const struct kvm_run *run, struct corral_exit_record *r)
{
    if (run->exit_reason == KVM_EXIT_IO) {
        r->address = run->io.port;
        r->size = run->io.size;
        r->count = run->io.count;
        r->write = run->io.direction == KVM_EXIT_IO_OUT;
    } else if (run->exit_reason == KVM_EXIT_MMIO) {
        r->address = run->mmio.phys_addr;
        r->size = run->mmio.len;
        r->count = 1;
        r->write = run->mmio.is_write;
    }
}

/* A value that was read is there only when the access is finished. */
static void describe_value(const struct kvm_run *run, struct corral_exit_record *r)
{
    size_t size = r->size <= sizeof r->value ? r->size : sizeof r->value;
    if (r->reason == KVM_EXIT_IO)
        memcpy(&r->value, (const uint8_t *)run + run->io.data_offset, size);
    else if (r->reason == KVM_EXIT_MMIO)
        memcpy(&r->value, run->mmio.data, size);
}

void corral_exit_ring_flush(struct corral_vcpu *v)
{
    struct corral_exit_ring *ring = v->exit_ring;
    if (!ring->open)
        return;
    ring->open = false;
    describe_value(v->run, &ring->now);
    put(ring);
}

void corral_exit_ring_enter(struct corral_vcpu *v)
{
    struct corral_exit_ring *ring = v->exit_ring;
    v->run->kvm_valid_regs = KVM_SYNC_X86_REGS | (ring->with_cpl ? KVM_SYNC_X86_SREGS : 0);
    ring->entered = clock_now();
    if (ring->open)
        ring->now.host_ns = clamped(ring->entered - ring->now.time);
    corral_exit_ring_flush(v);
}

void corral_exit_ring_exit(struct corral_vcpu *v)
{
    struct corral_exit_ring *ring = v->exit_ring;
    const struct kvm_run *run = v->run;
    uint32_t reason = run->exit_reason < CORRAL_EXIT_REASONS ? run->exit_reason : CORRAL_EXIT_REASONS - 1;
    if (!(__atomic_load_n(&ring->reasons, __ATOMIC_RELAXED) >> reason & 1))
        return;
    uint64_t now = clock_now();
    ring->now = (struct corral_exit_record){
        .time = now,
        .guest_ns = clamped(now - ring->entered),
        .rip = run->s.regs.regs.rip,
        .reason = reason,
        .by = CORRAL_BY_PYTHON,
        .cpl = ring->with_cpl ? corral_guest_cpl(v, &run->s.regs.sregs) : CORRAL_CPL_UNKNOWN,
    };
    describe_access(run, &ring->now);
    ring->open = true;
}

void corral_exit_ring_done_in_c(struct corral_vcpu *v)
{
    struct corral_exit_record *r = &v->exit_ring->now;
    bool by_assist = r->reason == KVM_EXIT_INTERNAL_ERROR || r->reason == KVM_EXIT_SHUTDOWN ||
                     (r->reason == KVM_EXIT_DEBUG && !v->watches);
    r->by = by_assist ? CORRAL_BY_ASSIST : CORRAL_BY_C;
}
