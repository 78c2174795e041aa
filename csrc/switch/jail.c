/* The switch's own jail: no path, no other process, and the system calls of its loop. Each layer is tried by
 * itself, for a host may lack any. */
#define _GNU_SOURCE
#include "switch.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(name)                                                                                               \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static const struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(recvfrom),
    ALLOW(sendto),
    ALLOW(poll),
    ALLOW(accept4),
    ALLOW(getsockopt),
    ALLOW(close),
    ALLOW(unlinkat),
    ALLOW(flock),
    ALLOW(exit_group),
    ALLOW(restart_syscall),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

void switch_jail(void)
{
    static const int ignored[] = {SIGINT, SIGHUP, SIGQUIT, SIGTSTP,
                                  SIGPIPE}; /* a terminal's are not meant for it */
    const struct rlimit none = {0, 0};
    struct sock_fprog all = {.len = sizeof filter / sizeof *filter, .filter = (struct sock_filter *)filter};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &none);
    unshare(CLONE_NEWNET | CLONE_NEWIPC);
#ifndef SWITCH_SANITIZED /* whose reports take other system calls */
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all);
#else
    (void)all;
#endif
}
