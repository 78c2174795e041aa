/* Landlock, capabilities, namespaces, and what else Linux has to give rights up for good: landlock(7),
 * capabilities(7).
 */
#define _GNU_SOURCE
#include "jail.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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

#define ON_FILES 0xc007ull /* of a ruleset's access_fs: what makes sense for a file that is no folder */
#define TO_READ 0xcull     /* READ_FILE, READ_DIR */
#define EXECUTE 0x1ull

static int add_path(int ruleset, uint64_t all, const struct corral_jail_path *path)
{
    struct stat about;
    if (fstat(path->fd, &about) < 0)
        return -errno;
    uint64_t access = path->writes ? all & ~EXECUTE : TO_READ;
    access &= S_ISDIR(about.st_mode) ? ~0ull : ON_FILES;
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = path->fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

/* Of landlock(7): one that allows these paths and nothing else. -errno. */
static int make_ruleset(const struct corral_jail_path *paths, unsigned n)
{
    const int abi = corral_jail_landlock_abi();
    if (abi < 0)
        return abi;
    struct ruleset rules;
    const size_t size = everything(abi, &rules);
    const int fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    int error = fd < 0 ? -errno : 0;
    for (unsigned i = 0; i < n && !error; i++)
        error = add_path(fd, rules.access_fs, &paths[i]);
    if (error && fd >= 0)
        close(fd);
    return error ? error : fd;
}

/* What is a thread's own, and must be given up by each. Safe in a signal handler. */
static int give_up(int ruleset)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    const int network = corral_jail_take_network();

    if (network >= 0 && setns(network, CLONE_NEWNET) < 0)
        return -errno;
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

/* Threads that are there already are asked by a signal, which none of them blocks before it ends. */
#define MOST_ASKED 1024
static struct {
    int ruleset;
    unsigned n;
    pid_t tids[MOST_ASKED];
    bool answered[MOST_ASKED]; /* atomic */
    int error;                 /* atomic */
} asked;

void corral_jail_answer(void)
{
    const int before = errno, error = give_up(asked.ruleset);
    const pid_t self = gettid();
    if (error)
        __atomic_store_n(&asked.error, error, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < asked.n; i++)
        if (asked.tids[i] == self)
            __atomic_store_n(&asked.answered[i], true, __ATOMIC_SEQ_CST);
    errno = before;
}

/* Or has ended meanwhile. */
static bool all_have_answered(void)
{
    for (unsigned i = 0; i < asked.n; i++)
        if (!__atomic_load_n(&asked.answered[i], __ATOMIC_SEQ_CST) && tgkill(getpid(), asked.tids[i], 0) == 0)
            return false;
    return true;
}

/* proc_pid_stat(5): workers of the host's kernel are among a process's threads, as those of io_uring and KVM are.
 * They run no code of ours, and answer no signal; nor does a thread that ends (include/linux/sched.h). */
#define PF_IO_WORKER 0x10
#define PF_USER_WORKER 0x4000
#define PF_KTHREAD 0x200000
#define PF_EXITING 0x4

static bool answers_nothing(pid_t tid)
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
    return flags & (PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD | PF_EXITING);
}

/* Asks every other thread; none is started meanwhile. -errno. */
static int ask_others(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return -errno;
    asked.n = 0;
    for (const struct dirent *task; asked.n < MOST_ASKED && (task = readdir(tasks));) {
        const pid_t tid = atoi(task->d_name);
        if (!tid || tid == gettid() || answers_nothing(tid))
            continue;
        asked.answered[asked.n] = false;
        asked.tids[asked.n++] = tid;
    }
    closedir(tasks);
    for (unsigned i = 0; i < asked.n; i++)
        tgkill(getpid(), asked.tids[i], SIGSYS);
    return asked.n < MOST_ASKED ? 0 : -E2BIG;
}

int corral_jail_give_up(int *landlock, const struct corral_jail_path *paths, unsigned n)
{
    asked.ruleset = make_ruleset(paths, n);
    asked.error = 0;
    *landlock = asked.ruleset < 0 ? asked.ruleset : 0;
    int result = ask_others();
    if (result == 0)
        result = give_up(asked.ruleset);
    for (unsigned us = 0; result == 0 && !all_have_answered(); us += us < 1000 ? 20 : 1000) {
        if (us > 1000000)
            result = -ETIMEDOUT;
        usleep(us < 1000 ? 20 : 1000);
    }
    if (asked.ruleset >= 0)
        close(asked.ruleset);
    if (corral_jail_take_network() >= 0)
        close(corral_jail_take_network());
    return result ? result : asked.error;
}

#define NAMESPACES (CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNS)

int corral_jail_unshare(void)
{
    return unshare(NAMESPACES) < 0 ? -errno : 0;
}

int corral_jail_unshare_user(void)
{
    return unshare(NAMESPACES | CLONE_NEWNET | CLONE_NEWUSER) < 0 ? -errno : 0;
}

int corral_jail_limit_files(uint64_t bytes)
{
    const struct rlimit most = {bytes, bytes};
    return setrlimit(RLIMIT_FSIZE, &most) < 0 ? -errno : 0;
}

/* What glibc's malloc would ask the kernel for from any thread: how many CPUs there are, for as many arenas
 * (sched_getaffinity); and the main arena's end (brk), by a thread that has to share that arena, or that frees
 * what is last in it. Told how many arenas, it does not ask; each thread has one; and nothing of the main one is
 * given back. */
static void settle_malloc(void)
{
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 1024);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

int corral_jail_hide(void)
{
    const struct rlimit none = {0, 0};
    settle_malloc();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}
