/* Landlock, capabilities, namespaces, and what else Linux has to give rights up for good: landlock(7),
 * capabilities(7).
 */
#define _GNU_SOURCE
#include "jail.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
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

void corral_jail_answer(void)
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

int corral_jail_give_up(int *landlock, const struct corral_jail_path *paths, unsigned n)
{
    asked.ruleset = make_ruleset(paths, n);
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

#define NAMESPACES (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNS)

int corral_jail_unshare(void)
{
    return unshare(NAMESPACES) < 0 ? -errno : 0;
}

int corral_jail_unshare_user(void)
{
    return unshare(NAMESPACES | CLONE_NEWUSER) < 0 ? -errno : 0;
}

int corral_jail_limit_files(uint64_t bytes)
{
    const struct rlimit most = {bytes, bytes};
    return setrlimit(RLIMIT_FSIZE, &most) < 0 ? -errno : 0;
}

int corral_jail_hide(void)
{
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}
