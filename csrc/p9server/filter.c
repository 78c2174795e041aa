/* The system calls of a server that serves; any other ends the process. */
#define _GNU_SOURCE
#include "jail.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_VALUES 4
#define ANY (-1)
#define SET_IDS (S_ISUID | S_ISGID)

/* Allowed if `argument`, masked, is one of the values. */
struct rule {
    int call;
    enum { ALWAYS, TO_WRITE, AS_ROOT } when;
    int argument; /* its index, or ANY */
    uint32_t mask;
    unsigned n;
    uint32_t values[MOST_VALUES];
};

#define CALL(name, when) {SYS_##name, when, ANY, 0, 0, {0}}
/* With a mode that has no set-uid and no set-gid bit. */
#define MODE(name, when, argument) {SYS_##name, when, argument, SET_IDS, 1, {0}}

/* Those of most messages first. */
static const struct rule rules[] = {
    CALL(recvfrom, ALWAYS),
    CALL(sendto, ALWAYS),
    CALL(statx, ALWAYS),
    MODE(openat, ALWAYS, 3),
    CALL(close, ALWAYS),
    CALL(preadv2, ALWAYS),
    CALL(futex, ALWAYS),
    CALL(pwrite64, TO_WRITE),
    {SYS_fcntl, ALWAYS, 1, ~0u, 3, {F_DUPFD_CLOEXEC, F_OFD_SETLK, F_OFD_GETLK}},
    CALL(getdents64, ALWAYS),
    CALL(lseek, ALWAYS),
    CALL(readlinkat, ALWAYS),
    CALL(pread64, ALWAYS),
    CALL(getxattr, ALWAYS),
    CALL(listxattr, ALWAYS),
    CALL(fstatfs, ALWAYS),
    CALL(fsync, ALWAYS),
    CALL(fdatasync, ALWAYS),
    CALL(setfsuid, AS_ROOT),
    CALL(setfsgid, AS_ROOT),
    CALL(ftruncate, TO_WRITE),
    CALL(truncate, TO_WRITE),
    CALL(utimensat, TO_WRITE),
    CALL(fchownat, TO_WRITE),
    MODE(fchmodat, TO_WRITE, 2),
    MODE(mkdirat, TO_WRITE, 2),
    /* no device */
    {SYS_mknodat, TO_WRITE, 2, S_IFMT | SET_IDS, 4, {0, S_IFREG, S_IFIFO, S_IFSOCK}},
    CALL(symlinkat, TO_WRITE),
    CALL(linkat, TO_WRITE),
    CALL(renameat, TO_WRITE),
    CALL(unlinkat, TO_WRITE),
    CALL(setxattr, TO_WRITE),
    CALL(removexattr, TO_WRITE),
    /* the end, and its line; a system call that a signal has interrupted */
    CALL(write, ALWAYS),
    CALL(exit_group, ALWAYS),
    CALL(restart_syscall, ALWAYS),
};

#define RULES (sizeof rules / sizeof *rules)
#define LONGEST_RULE (4 + MOST_VALUES)

#define OF(field) ((uint32_t)offsetof(struct seccomp_data, field))

static bool applies(const struct rule *rule, const struct p9_jail *jail)
{
    return rule->when == ALWAYS || (!jail->read_only && (rule->when == TO_WRITE || jail->as_root));
}

/* The rule as instructions. Behind a call that is not its own it goes on with the number of the call loaded. */
static unsigned compile(const struct rule *rule, struct sock_filter *to)
{
    const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_filter refuse = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    unsigned n = 0;
    if (rule->argument == ANY) {
        to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->call, 0, 1);
        to[n++] = allow;
        return n;
    }
    to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->call, 0, 4 + rule->n);
    to[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, OF(args) + 8 * rule->argument);
    to[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->mask);
    for (unsigned i = 0; i < rule->n; i++)
        to[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->values[i], rule->n - i, 0);
    to[n++] = refuse;
    to[n++] = allow;
    return n;
}

void p9_filter(struct p9_jail *jail)
{
    struct sock_filter program[5 + RULES * LONGEST_RULE];
    unsigned n = 0;
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, OF(arch));
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, OF(nr));
    for (unsigned i = 0; i < RULES; i++)
        if (applies(&rules[i], jail))
            n += compile(&rules[i], program + n);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog all = {.len = n, .filter = program};
#ifndef P9_SANITIZED /* whose reports take other system calls */
    jail->filter = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &all) == 0;
#else
    (void)all;
#endif
}
