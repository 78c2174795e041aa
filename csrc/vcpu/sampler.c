/* Written by the vCPU's thread, read by another: one index each, and nobody waits. */
#include "sampler.h"
#include "guest_access.h"
#include "guest_mode.h"
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#define EFER_LMA (1ULL << 10)

struct corral_sampler {
    uint32_t mask;
    bool wanted;   /* atomic */
    uint32_t head; /* atomic: next to be written, counts on and wraps */
    uint32_t tail; /* atomic: next to be read */
    uint64_t lost; /* atomic */
    struct corral_sample samples[];
};

struct corral_sampler *corral_sampler_create(uint32_t size)
{
    if (!size || size & (size - 1) || size > 1u << 16) {
        errno = EINVAL;
        return NULL;
    }
    struct corral_sampler *s = calloc(1, sizeof *s + (size_t)size * sizeof s->samples[0]);
    if (s)
        s->mask = size - 1;
    return s;
}

void corral_sampler_destroy(struct corral_sampler *sampler)
{
    free(sampler);
}

void corral_sampler_request(struct corral_vcpu *v)
{
    __atomic_store_n(&v->sampler->wanted, true, __ATOMIC_SEQ_CST);
    corral_vcpu_nudge(v);
}

bool corral_sampler_next(struct corral_sampler *s, struct corral_sample *sample)
{
    uint32_t tail = s->tail;
    /* Acquire: pairs with the release in take(); the sample is whole. */
    if (__atomic_load_n(&s->head, __ATOMIC_ACQUIRE) == tail)
        return false;
    *sample = s->samples[tail & s->mask];
    /* Release: it is copied before its place is free; pairs with the acquire in take(). */
    __atomic_store_n(&s->tail, tail + 1, __ATOMIC_RELEASE);
    return true;
}

uint64_t corral_sampler_lost(const struct corral_sampler *s)
{
    return __atomic_load_n(&s->lost, __ATOMIC_RELAXED);
}

void corral_sampler_take(struct corral_vcpu *v)
{
    struct corral_sampler *s = v->sampler;
    if (!__atomic_exchange_n(&s->wanted, false, __ATOMIC_SEQ_CST))
        return;
    uint32_t head = s->head;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_mp_state state;
    if (head - __atomic_load_n(&s->tail, __ATOMIC_ACQUIRE) > s->mask || ioctl(v->fd, KVM_GET_REGS, &regs) < 0 ||
        ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0 || ioctl(v->fd, KVM_GET_MP_STATE, &state) < 0) {
        __atomic_store_n(&s->lost, s->lost + 1, __ATOMIC_RELAXED);
        return;
    }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    bool long_mode = (sregs.efer & EFER_LMA) && sregs.cs.l;
    struct corral_sample *sample = &s->samples[head & s->mask];
    sample->time = t.tv_sec * 1000000000ull + t.tv_nsec;
    sample->rip = long_mode ? regs.rip : (uint32_t)(regs.rip + sregs.cs.base);
    sample->rsp = long_mode ? regs.rsp : (uint32_t)(regs.rsp + sregs.ss.base);
    sample->rbp = long_mode ? regs.rbp : (uint32_t)(regs.rbp + sregs.ss.base);
    sample->cr3 = sregs.cr3;
    sample->cpl = corral_guest_cpl(v, &sregs);
    sample->halted = state.mp_state != KVM_MP_STATE_RUNNABLE;
    sample->stack_size = corral_peek(v->ram, &sregs, sample->rsp, sample->stack, sizeof sample->stack);
    __atomic_store_n(&s->head, head + 1, __ATOMIC_RELEASE);
}
