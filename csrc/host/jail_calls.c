/* Filters of system calls, and what is told of a call that they refuse: seccomp(2). */
#define _GNU_SOURCE
#include "jail.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* In a filter of the table: the number of the process, which takes its place when the filter is installed. */
#define CORRAL_JAIL_SELF 0xfffffffe

#include "jail_filters.inc"

#define MOST_INSTRUCTIONS 640
#define MOST_CALLS 512
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct {
    const struct sock_filter *code;
    unsigned short length;
} filters[] = {
    [CORRAL_JAIL_MAIN] = {main_filter, COUNT(main_filter)},
    [CORRAL_JAIL_VCPU] = {vcpu_filter, COUNT(vcpu_filter)},
    [CORRAL_JAIL_DISK] = {disk_filter, COUNT(disk_filter)},
    [CORRAL_JAIL_STREAM] = {stream_filter, COUNT(stream_filter)},
    [CORRAL_JAIL_CLERK] = {clerk_filter, COUNT(clerk_filter)},
    [CORRAL_JAIL_SOCKET] = {socket_filter, COUNT(socket_filter)},
    [CORRAL_JAIL_CONNECTOR] = {connector_filter, COUNT(connector_filter)},
    [CORRAL_JAIL_DEBUGGER] = {debugger_filter, COUNT(debugger_filter)},
    [CORRAL_JAIL_NAMED] = {named_filter, COUNT(named_filter)},
    [CORRAL_JAIL_SCRIPT] = {script_filter, COUNT(script_filter)},
    [CORRAL_JAIL_FILES] = {files_filter, COUNT(files_filter)},
};

static bool jailed;              /* written once, before there are threads that enter */
static struct termios2 terminal; /* as it was before, if there is one */
static bool has_terminal;
static int words = 2;              /* standard error, without waiting for its reader where that can be had */
static enum corral_jail_kind base; /* that all threads have */
static __thread enum corral_jail_kind own_kind = CORRAL_JAIL_KINDS; /* none besides */
static const char *const kind_names[] = {"the main thread",
                                         "a vCPU's thread",
                                         "a disk's thread",
                                         "a device's thread",
                                         "the clerk",
                                         "a device's thread with sockets",
                                         "the connector",
                                         "the debugger's thread",
                                         "a named guest's main thread",
                                         "a script",
                                         "a script"};
static bool reports; /* refused calls are told of, and done */

/* A system call that no filter looks at: they know it by the address behind it. */
long corral_jail_gate(long call, long a, long b, long c, long d, long e, long f);
extern const char corral_jail_gate_end[];
__asm__(".pushsection .text\n"
        ".type corral_jail_gate, @function\n"
        ".hidden corral_jail_gate\n"
        ".hidden corral_jail_gate_end\n"
        ".globl corral_jail_gate, corral_jail_gate_end\n"
        "corral_jail_gate:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %rdi\n"
        "    mov %rdx, %rsi\n"
        "    mov %rcx, %rdx\n"
        "    mov %r8, %r10\n"
        "    mov %r9, %r8\n"
        "    mov 8(%rsp), %r9\n"
        "    syscall\n"
        "corral_jail_gate_end:\n"
        "    ret\n"
        ".size corral_jail_gate, . - corral_jail_gate\n"
        ".popsection\n");

static enum corral_jail_kind kind_of_thread(void)
{
    return own_kind == CORRAL_JAIL_KINDS ? base : own_kind;
}

static const char *name_of(unsigned call)
{
    return call < COUNT(call_names) && call_names[call] ? call_names[call] : "unknown";
}

static void say(const char *line, int length)
{
    if (write(words, line, length) < 0) {
        /* The status tells as well. */
    }
}

/* The call of the context, as if there were no filter; what it returns is put where it would be. */
static void do_it(unsigned call, greg_t *at)
{
    /* Its child would come back here on a stack of its own. */
    if ((call == SYS_clone && at[REG_RDI] & CLONE_VM) || call == SYS_vfork)
        at[REG_RAX] = -EPERM;
    else
        at[REG_RAX] =
            corral_jail_gate(call, at[REG_RDI], at[REG_RSI], at[REG_RDX], at[REG_R10], at[REG_R8], at[REG_R9]);
}

static void report_call(unsigned call, bool fails, greg_t *at)
{
    static bool told[CORRAL_JAIL_KINDS][MOST_CALLS];
    char line[256], thread[16] = "";
    if (call >= MOST_CALLS || !__atomic_exchange_n(&told[kind_of_thread()][call], true, __ATOMIC_RELAXED)) {
        corral_jail_gate(SYS_prctl, PR_GET_NAME, (long)thread, 0, 0, 0, 0);
        say(line, snprintf(line, sizeof line, "corral: the jail would %s %s (system call %u) to %s, %s\n",
                           fails ? "deny" : "refuse", name_of(call), call, kind_names[kind_of_thread()], thread));
    }
    do_it(call, at);
}

/* Only calls that are safe in a signal handler, and that every filter allows. */
static void refused(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    if (info->si_code == SI_TKILL) { /* the filters are not there yet: tgkill() is this process's own */
        corral_jail_answer();
        return;
    }
    const unsigned call = info->si_syscall;
    if (reports) {
        report_call(call, info->si_errno, ((ucontext_t *)context)->uc_mcontext.gregs);
        return;
    }
    char line[256];
    int length =
        snprintf(line, sizeof line,
                 "corral: the jail refused %s (system call %u) to %s: a guest has broken out into Corral, or "
                 "this is a bug in Corral; --jail off runs without a jail\n",
                 name_of(call), call, kind_names[kind_of_thread()]);
    if (has_terminal)
        ioctl(0, TCSETS2, &terminal);
    say(line, length);
    _exit(CORRAL_JAIL_STATUS);
}

int corral_jail_tell(bool goes_on)
{
    struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_RESTART};
    reports = goes_on;
    has_terminal = ioctl(0, TCGETS2, &terminal) == 0;
    const int anew = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    words = anew < 0 ? 2 : anew; /* a socket cannot be opened */
    return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/* Before a filter that reports: what do_it() does, and the end of the handler. */
static unsigned allow_gate(struct sock_filter *to)
{
    const uint64_t at = (uintptr_t)corral_jail_gate_end;
    const unsigned ip = offsetof(struct seccomp_data, instruction_pointer);
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)at, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, at >> 32, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    memcpy(to, code, sizeof code);
    return COUNT(code);
}

/* The filter of a kind as it is installed; returns how many instructions it has. */
static unsigned complete(enum corral_jail_kind kind, pid_t self, struct sock_filter *code)
{
    const unsigned before = reports ? allow_gate(code) : 0, length = filters[kind].length;
    memcpy(code + before, filters[kind].code, length * sizeof *code);
    for (unsigned i = before; i < before + length; i++) {
        if (code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[i].k == CORRAL_JAIL_SELF)
            code[i].k = self;
        if (reports && code[i].code == (BPF_RET | BPF_K) && code[i].k == (SECCOMP_RET_ERRNO | EACCES))
            code[i].k = SECCOMP_RET_TRAP | EACCES;
    }
    return before + length;
}

int corral_jail_filter(enum corral_jail_kind kind, bool all)
{
    static pid_t self; /* once there is a filter, getpid() may be refused */
    struct sock_filter code[MOST_INSTRUCTIONS];
    _Static_assert(COUNT(files_filter) + 8 <= MOST_INSTRUCTIONS, "the longest filter");

    if (!jailed)
        self = getpid();
    const struct sock_fprog program = {.len = complete(kind, self, code), .filter = code};
    const long result =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, all ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
    if (result == 0) {
        jailed = true;
        own_kind = kind;
        base = all ? kind : base;
    }
    return result < 0 ? -errno : result > 0 ? -ESRCH : 0;
}

int corral_jail_has_filters(void)
{
    const uint32_t action = SECCOMP_RET_TRAP;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

int corral_jail_enter(enum corral_jail_kind kind)
{
    /* There devices in Python, which may do what the program may, run on the threads of vCPUs. */
    if (kind == CORRAL_JAIL_VCPU && (base == CORRAL_JAIL_SCRIPT || base == CORRAL_JAIL_FILES))
        return 0;
    return jailed && own_kind != kind ? corral_jail_filter(kind, false) : 0;
}

void corral_jail_enter_or_end(enum corral_jail_kind kind)
{
    if (corral_jail_enter(kind) == 0)
        return;
    fputs("corral: the host refuses a device's thread its seccomp filter; --jail off runs without a jail\n",
          stderr);
    _exit(CORRAL_JAIL_STATUS);
}
