/* One vCPU and the loop that runs it. */
#ifndef CORRAL_VCPU_H
#define CORRAL_VCPU_H

#include "bus.h"
#include "exit_ring.h"
#include "memory.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* --- for Python --- */

#define CORRAL_EXIT_REASONS 64

struct corral_vcpu;
struct corral_assist;
struct corral_watches;
struct corral_sampler;
struct corral_ioapic;

/* What corral_vcpu_run comes back for. */
#define CORRAL_KICKED 0
#define CORRAL_EXIT 1   /* Python shall handle the exit */
#define CORRAL_HOOKED 2 /* hooks shall see it first; C may not have finished it yet: corral_vcpu_finish */

/* In corral_vcpu.hooked, a bit for each reason: the last one is never finished in C, so it is free to say this. */
#define CORRAL_ANY_HOOK (1ull << (CORRAL_EXIT_REASONS - 1))

/* Completes one exit. 1: finished, enter the guest again; 0: Python shall have it; < 0: -errno. */
typedef int (*corral_finisher)(struct corral_vcpu *v);

struct corral_vcpu {
    int fd, vm_fd;
    struct kvm_run *run;
    const struct corral_ram *ram;
    struct corral_assist *assist;
    struct corral_exit_ring *exit_ring; /* NULL: nobody looks. Changed only while the vCPU does not run */
    struct corral_watches *watches;     /* NULL: nothing is watched. Likewise */
    struct corral_sampler *sampler;     /* NULL: nobody profiles. Likewise */

    /* By exit reason; reasons past the end count as the last and always go to Python. */
    corral_finisher finish[CORRAL_EXIT_REASONS];
    uint64_t hooked; /* reasons that hooks see before C, and CORRAL_ANY_HOOK; 0: no hook. Atomic, at any time */
    bool unfinished; /* C has not been asked about the exit at hand */
    bool at_hand;    /* there is an exit that corral_vcpu_run has not come to: corral_vcpu_complete led to it */
    uint64_t exits[CORRAL_EXIT_REASONS];
    uint64_t finished[CORRAL_EXIT_REASONS];

    const struct corral_bus *ports, *mmio; /* of its VM; NULL: Python answers all */
    struct corral_ioapic *ioapic;          /* of its VM; NULL: KVM has one */

    /* --- for C alone --- */
    bool kicked; /* by corral_vcpu_kick, and not returned for that yet; atomic */
    pid_t tid;   /* of the thread inside corral_vcpu_run, 0 when there is none; atomic */
};

/* Runs the guest until it is kicked or an exit wants Python; run->exit_reason tells which. CORRAL_KICKED,
 * CORRAL_EXIT, CORRAL_HOOKED or -errno. */
int corral_vcpu_run(struct corral_vcpu *v);

/* Finishes the exit that corral_vcpu_run came back for, if hooks were to see it first and C has a finisher for it.
 * To be called once, on the same thread. 1: finished; 0: Python shall handle it; < 0: -errno. */
int corral_vcpu_finish(struct corral_vcpu *v);

/* Makes corral_vcpu_run return CORRAL_KICKED soon: from any thread, in any state of the vCPU, also before it runs.
 */
void corral_vcpu_kick(struct corral_vcpu *v);

/* Has the vCPU leave the guest and enter it again; where a sampler is attached it takes a sample between. */
void corral_vcpu_nudge(struct corral_vcpu *v);

/* Has KVM do what it still has to for the last exit, which it does at the next entry (api.rst, 5), and does not
 * enter the guest. Not on a vCPU that a thread runs. Returns 0 or -errno; -EAGAIN: that led to another exit, with
 * which corral_vcpu_run begins. */
int corral_vcpu_complete(struct corral_vcpu *v);

/* Installs the handler that lets a kick interrupt KVM_RUN; once per process. 0 or -errno. */
int corral_kick_init(void);

/* ioctl(2) that returns -errno instead of setting it. */
int corral_ioctl(int fd, unsigned long request, void *arg);

/* CPUID of the real CPU, as user space sees it. */
void corral_host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* --- for C alone --- */

/* What makes KVM_RUN return on the thread that gets it. */
#define CORRAL_KICK_SIGNAL (SIGRTMIN + 1)

#endif
