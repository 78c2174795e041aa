/* The way of an exit: KVM_RUN, count, finish what is hot, give Python the rest. */
#define _GNU_SOURCE
#include "sampler.h"
#include "vcpu.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t own_pid; /* of the process whose threads are kicked */

/* After EINTR: whether it was for a sample alone. A kick writes `kicked` before immediate_exit; one that comes
 * behind these lines makes the next KVM_RUN return at once. */
static bool was_nudged(struct corral_vcpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    return !__atomic_exchange_n(&v->kicked, false, __ATOMIC_SEQ_CST) && v->sampler;
}

static uint32_t counted_reason(const struct corral_vcpu *v)
{
    const uint32_t reason = v->run->exit_reason;
    return reason < CORRAL_EXIT_REASONS ? reason : CORRAL_EXIT_REASONS - 1;
}

/* The exit at hand: 1 when C has finished it, 0 when that is left to Python, -errno. */
static int finish(struct corral_vcpu *v)
{
    const uint32_t reason = counted_reason(v);
    const corral_finisher finisher = v->finish[reason];

    v->unfinished = false;
    const int result = finisher ? finisher(v) : 0;
    if (result > 0) {
        v->finished[reason]++;
        if (v->exit_ring)
            corral_exit_ring_done_in_c(v);
    }
    return result;
}

int corral_vcpu_finish(struct corral_vcpu *v)
{
    return v->unfinished ? finish(v) : 0;
}

int corral_vcpu_run(struct corral_vcpu *v)
{
    /* Before KVM_RUN looks at immediate_exit, as corral_vcpu_kick writes that before it looks at tid: one of the
     * two sees the other's word. */
    __atomic_store_n(&v->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    const bool traced = v->exit_ring;
    bool at_hand = v->at_hand;
    v->at_hand = false;
    int result;
    do {
        if (traced)
            corral_exit_ring_enter(v);
        if (!at_hand && ioctl(v->fd, KVM_RUN, 0) < 0) {
            result = -errno;
            if (result == -EINTR && was_nudged(v)) {
                corral_sampler_take(v);
                result = -EAGAIN;
            }
            if (result == -EAGAIN) /* a waiting AP was woken by INIT: nothing to tell, run it again */
                continue;
            break;
        }
        at_hand = false;
        const uint32_t reason = counted_reason(v);
        v->exits[reason]++;
        if (traced)
            corral_exit_ring_exit(v);
        const uint64_t hooked = __atomic_load_n(&v->hooked, __ATOMIC_RELAXED);
        v->unfinished = hooked >> reason & 1;
        result = v->unfinished ? 0 : finish(v);
        if (result == 0) {
            result = hooked ? CORRAL_HOOKED : CORRAL_EXIT;
            break;
        }
    } while (result > 0 || result == -EAGAIN);
    __atomic_store_n(&v->tid, 0, __ATOMIC_RELEASE);
    return result == -EINTR ? CORRAL_KICKED : result;
}

void corral_vcpu_kick(struct corral_vcpu *v)
{
    __atomic_store_n(&v->kicked, true, __ATOMIC_SEQ_CST);
    corral_vcpu_nudge(v);
}

void corral_vcpu_nudge(struct corral_vcpu *v)
{
    /* immediate_exit first: a signal that lands before KVM_RUN is then not lost (api.rst, 5: immediate_exit). */
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pid_t tid = __atomic_load_n(&v->tid, __ATOMIC_SEQ_CST);
    if (tid)
        syscall(SYS_tgkill, own_pid, tid, CORRAL_KICK_SIGNAL);
}

int corral_vcpu_complete(struct corral_vcpu *v)
{
    if (v->at_hand)
        return -EAGAIN;
    const uint8_t before = v->run->immediate_exit;
    v->run->immediate_exit = 1;
    v->at_hand = ioctl(v->fd, KVM_RUN, 0) == 0;
    int result = v->at_hand ? -EAGAIN : errno == EINTR ? 0 : -errno;
    v->run->immediate_exit = before;
    return result;
}

static void kicked(int signal)
{
    (void)signal; /* its arrival is the message: KVM_RUN returns EINTR */
}

int corral_kick_init(void)
{
    own_pid = getpid();
    struct sigaction action = {.sa_handler = kicked}; /* no SA_RESTART, or KVM_RUN would go on */
    return sigaction(CORRAL_KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

int corral_ioctl(int fd, unsigned long request, void *arg)
{
    int result = ioctl(fd, request, arg);
    return result < 0 ? -errno : result;
}

void corral_host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}
