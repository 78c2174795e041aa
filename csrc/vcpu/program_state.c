#define _GNU_SOURCE
#include "program_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define TRIES 64

int corral_only_program_ran(const struct corral_vcpu *v, struct corral_kernel_count *count)
{
    uint64_t emulated, all = 0;
    struct iovec part = {.iov_base = &emulated, .iov_len = sizeof emulated};
    if (preadv2(count->fd, &part, 1, count->offset, 0) != sizeof emulated)
        return errno ? -errno : -EIO;
    for (unsigned i = 0; i < CORRAL_EXIT_REASONS; i++)
        all += v->exits[i] << 32 * (i != KVM_EXIT_IO);
    const bool only = emulated - count->seen == all - count->exits;
    count->seen = emulated;
    count->exits = all;
    return only;
}

static void ask(struct corral_vcpu *v, const struct corral_program_state *state)
{
    struct kvm_sync_regs *sync = &v->run->s.regs;
    sync->regs = state->regs;
    sync->sregs = state->sregs;
    sync->events = state->events;
    v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
}

int corral_program_put_back(struct corral_vcpu *v, const struct corral_program_state *state)
{
    const uint8_t before = v->run->immediate_exit;
    int result = -EAGAIN;
    v->at_hand = v->unfinished = false;
    v->run->immediate_exit = 1;
    /* KVM takes them before it ends what the last exit left, which may change them once more. */
    for (unsigned i = 0; i < TRIES && result == -EAGAIN; i++) {
        ask(v, state);
        if (ioctl(v->fd, KVM_RUN, 0) < 0 && errno != EINTR)
            result = -errno;
        else if (!memcmp(&v->run->s.regs.regs, &state->regs, sizeof state->regs))
            result = 0;
    }
    v->run->immediate_exit = before;
    if (!result && ioctl(v->fd, KVM_SET_XSAVE, state->xsave) < 0)
        result = -errno;
    if (!result && ioctl(v->fd, KVM_SET_LAPIC, &state->lapic) < 0)
        result = -errno;
    return result;
}
