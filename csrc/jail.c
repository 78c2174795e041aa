/* Seccomp, Landlock and what else Linux has to give rights up for good: seccomp(2), landlock(7), capabilities(7).
 */
#define _GNU_SOURCE
#include "jail.h"

#include <asm/termbits.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In a filter of the table: the number of the process, which takes its place when the filter is installed. */
#define CORRAL_JAIL_SELF 0xfffffffe

#include "jail_filters.inc"

#define MOST_INSTRUCTIONS 512
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
};

static bool jailed;              /* written once, before there are threads that enter */
static struct termios2 terminal; /* as it was before, if there is one */
static bool has_terminal;
static int words = 2; /* standard error, without waiting for its reader where that can be had */
static __thread enum corral_jail_kind own_kind;
static const char *const kind_names[] = {"the main thread",   "a vCPU's thread", "a disk's thread",
                                         "a device's thread", "the clerk",       "a device's thread with sockets",
                                         "the connector"};

/* landlock(7): what each ABI knows. The headers of Debian 12 end with ABI 2. */
struct ruleset {
    uint64_t access_fs, access_net, scoped;
};

static size_t everything(int abi, struct ruleset *r)
{
    const unsigned fs_bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;
    *r = (struct ruleset){.access_fs = (1ull << fs_bits) - 1, .access_net = 3, .scoped = 3};
    return abi >= 6   ? sizeof *r
           : abi >= 4 ? offsetof(struct ruleset, scoped)
                      : offsetof(struct ruleset, access_net);
}

int corral_jail_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi < 0 ? -errno : (int)abi;
}

/* Of landlock(7): one that allows nothing. -errno. */
static int empty_ruleset(void)
{
    const int abi = corral_jail_landlock_abi();
    if (abi < 0)
        return abi;
    struct ruleset rules;
    const size_t size = everything(abi, &rules);
    const int fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    return fd < 0 ? -errno : fd;
}

/* What is a thread's own, and must be given up by each. Safe in a signal handler. */
static int give_up(int ruleset)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    /* EPERM: a user who is not root has none to drop. EINVAL: there are no more. */
    for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
        ;
    if (syscall(SYS_capset, &header, none) < 0)
        return -errno;
    if (ruleset >= 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return -errno;
    return 0;
}

/* Threads that are there already are asked by a signal, which none of them blocks. */
static struct {
    int ruleset, answers, error; /* atomic, but for the first */
} asked;

static void answer_request(void)
{
    const int before = errno, error = give_up(asked.ruleset);
    if (error)
        __atomic_store_n(&asked.error, error, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&asked.answers, 1, __ATOMIC_SEQ_CST);
    errno = before;
}

/* proc_pid_stat(5): workers of the host's kernel are among a process's threads, as those of io_uring and KVM are.
 * They run no code of ours, and answer no signal (include/linux/sched.h). */
#define PF_IO_WORKER 0x10
#define PF_USER_WORKER 0x4000
#define PF_KTHREAD 0x200000

static bool is_the_kernels(pid_t tid)
{
    char path[64], text[512], *rest;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *stat = fopen(path, "re");
    const bool got = stat && fgets(text, sizeof text, stat);
    if (stat)
        fclose(stat);
    unsigned flags = 0;
    if (!got || !(rest = strrchr(text, ')')) || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
        return false;
    return flags & (PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD);
}

/* Asks every other thread; returns how many, or -errno. None is started meanwhile. */
static int ask_others(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return -errno;
    int n = 0;
    for (const struct dirent *task; (task = readdir(tasks));) {
        const pid_t tid = atoi(task->d_name);
        if (tid && tid != gettid() && !is_the_kernels(tid) && tgkill(getpid(), tid, SIGSYS) == 0)
            n++;
    }
    closedir(tasks);
    return n;
}

int corral_jail_give_up(int *landlock)
{
    asked.ruleset = empty_ruleset();
    asked.answers = asked.error = 0;
    *landlock = asked.ruleset < 0 ? asked.ruleset : 0;
    const int others = ask_others();
    int result = others < 0 ? others : give_up(asked.ruleset);
    for (int ms = 0; result == 0 && __atomic_load_n(&asked.answers, __ATOMIC_SEQ_CST) < others; ms++) {
        if (ms == 1000)
            result = -ETIMEDOUT;
        else if (ms)
            usleep(1000);
        else
            sched_yield();
    }
    if (asked.ruleset >= 0)
        close(asked.ruleset);
    return result ? result : asked.error;
}

int corral_jail_unshare(void)
{
    const int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNS;
    return unshare(flags) < 0 ? -errno : 0;
}

int corral_jail_hide(void)
{
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}

/* Only calls that are safe in a signal handler, and that every filter allows. */
static void refused(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (info->si_code == SI_TKILL) { /* the filters are not there yet: tgkill() is this process's own */
        answer_request();
        return;
    }
    const unsigned call = info->si_syscall;
    const char *name = call < COUNT(call_names) && call_names[call] ? call_names[call] : "unknown";
    char line[256];
    int length =
        snprintf(line, sizeof line,
                 "corral: the jail refused %s (system call %u) to %s: a guest has broken out into Corral, or "
                 "this is a bug in Corral; --jail off runs without a jail\n",
                 name, call, kind_names[own_kind]);
    if (has_terminal)
        ioctl(0, TCSETS2, &terminal);
    if (write(words, line, length) < 0) {
        /* The status tells as well. */
    }
    _exit(CORRAL_JAIL_STATUS);
}

int corral_jail_tell(void)
{
    struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_RESTART};
    has_terminal = ioctl(0, TCGETS2, &terminal) == 0;
    const int anew = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    words = anew < 0 ? 2 : anew; /* a socket cannot be opened */
    return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

int corral_jail_filter(enum corral_jail_kind kind, bool all)
{
    static pid_t self; /* once there is a filter, getpid() may be refused */
    struct sock_filter code[MOST_INSTRUCTIONS];
    const unsigned short length = filters[kind].length;
    _Static_assert(COUNT(main_filter) <= MOST_INSTRUCTIONS, "the longest filter");

    if (!jailed)
        self = getpid();
    memcpy(code, filters[kind].code, length * sizeof *code);
    for (unsigned i = 0; i < length; i++)
        if (code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[i].k == CORRAL_JAIL_SELF)
            code[i].k = self;
    const struct sock_fprog program = {.len = length, .filter = code};
    const long result =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, all ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
    if (result == 0)
        jailed = true, own_kind = kind;
    return result < 0 ? -errno : result > 0 ? -ESRCH : 0;
}

int corral_jail_enter(enum corral_jail_kind kind)
{
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
