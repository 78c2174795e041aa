/* The way of an exit: KVM_RUN, count, finish what is hot, give Python the rest. */
#define _GNU_SOURCE
#include "sampler.h"
#include "vcpu.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
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

static int claim(struct corral_io_range *ranges, unsigned *n, unsigned most, struct corral_io_range new)
{
    if (new.last < new.first || !new.op)
        return -EINVAL;
    for (unsigned i = 0; i < *n; i++)
        if (new.first <= ranges[i].last && new.last >= ranges[i].first)
            return -EEXIST;
    if (*n == most)
        return -ENOSPC;
    ranges[(*n)++] = new;
    return 0;
}

int corral_vcpu_claim_pio(struct corral_vcpu *v, uint16_t first, uint16_t last, corral_pio_op op, void *device)
{
    v->finish[KVM_EXIT_IO] = corral_finish_pio;
    return claim(v->pio, &v->n_pio, CORRAL_PIO_RANGES, (struct corral_io_range){first, last, op, device});
}

int corral_vcpu_claim_mmio(struct corral_vcpu *v, uint64_t first, uint64_t last, corral_pio_op op, void *device)
{
    v->finish[KVM_EXIT_MMIO] = corral_finish_mmio;
    return claim(v->mmio, &v->n_mmio, CORRAL_MMIO_RANGES, (struct corral_io_range){first, last, op, device});
}

static const struct corral_io_range *find(const struct corral_io_range *ranges, unsigned n, uint64_t address)
{
    for (unsigned i = 0; i < n; i++)
        if (address >= ranges[i].first && address <= ranges[i].last)
            return &ranges[i];
    return NULL;
}

int corral_finish_pio(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint8_t size = run->io.size;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    const struct corral_io_range *range = find(v->pio, v->n_pio, run->io.port);

    if (!range)
        return 0;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t done = 0; done < run->io.count; done++, data += size) {
        uint32_t value = 0;
        memcpy(&value, data, size);
        /* A device that wants Python says so for the first element: a string access is not split. */
        if (!range->op(range->device, write, run->io.port - range->first, size, &value))
            return 0;
        if (!write)
            memcpy(data, &value, size);
    }
    return 1;
}

int corral_finish_mmio(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint32_t size = run->mmio.len, value = 0;
    const struct corral_io_range *range = find(v->mmio, v->n_mmio, run->mmio.phys_addr);

    if (!range || size > sizeof value)
        return 0;
    memcpy(&value, run->mmio.data, size);
    uint16_t offset = run->mmio.phys_addr - range->first;
    if (!range->op(range->device, run->mmio.is_write, offset, size, &value))
        return 0;
    if (!run->mmio.is_write)
        memcpy(run->mmio.data, &value, size);
    return 1;
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

bool corral_pio_constant(void *device, bool write, uint16_t offset, uint8_t size, uint32_t *value)
{
    (void)offset, (void)size;
    if (!write)
        *value = *(const uint32_t *)device;
    return true;
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
