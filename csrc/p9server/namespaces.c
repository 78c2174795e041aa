#define _GNU_SOURCE
#include "jail.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define MAP_SIZE 4096
#define DETACH 2 /* MNT_DETACH, whose header excludes linux/mount.h */

/* A descriptor's mount is of the namespace where it was opened: in another the folder has to be found again. */
static char folder_path[P9_PATH_SIZE];

/* By system calls: older C libraries have none of these. */
static int open_tree(int fd, const char *path, unsigned flags)
{
    return syscall(SYS_open_tree, fd, path, flags);
}

static int write_file(const char *path, const char *content)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, content, strlen(content));
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* Each number that this namespace has stands for itself in the child's. */
static bool map_all(const char *of, pid_t child)
{
    char path[64], map[MAP_SIZE] = "", line[64];
    unsigned long first, outside, count;
    snprintf(path, sizeof path, "/proc/self/%s", of);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    while (fscanf(file, "%lu %lu %lu", &first, &outside, &count) == 3) {
        int n = snprintf(line, sizeof line, "%lu %lu %lu\n", first, first, count);
        if (strlen(map) + n < sizeof map)
            strcat(map, line);
    }
    fclose(file);
    snprintf(path, sizeof path, "/proc/%d/%s", child, of);
    return write_file(path, map) == 0;
}

static bool map_one(const char *of, pid_t child, unsigned number)
{
    char path[64], map[64];
    snprintf(path, sizeof path, "/proc/%d/%s", child, of);
    snprintf(map, sizeof map, "%u %u 1\n", number, number);
    return write_file(path, map) == 0;
}

static bool map_users(const struct p9_jail *jail, pid_t child)
{
    char path[64];
    if (jail->as_root)
        return map_all("uid_map", child) && map_all("gid_map", child);
    snprintf(path, sizeof path, "/proc/%d/setgroups", child);
    return write_file(path, "deny") == 0 && map_one("uid_map", child, geteuid()) &&
           map_one("gid_map", child, getegid());
}

/* True: in a child, in new namespaces by `flags`. */
static bool clone_into(struct p9_jail *jail, int flags)
{
    int line[2];
    char word = 0;
    pid_t parent = getpid();
    if (pipe2(line, O_CLOEXEC) < 0)
        return false;
    pid_t child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child < 0) {
        close(line[0]);
        close(line[1]);
        return false;
    }
    if (child) {
        bool mapped = !(flags & CLONE_NEWUSER) || map_users(jail, child);
        bool begun = mapped && write(line[1], &word, 1) == 1;
        close(line[0]);
        close(line[1]);
        if (begun)
            p9_watch_over(child);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        return false;
    }
    close(line[1]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(line[0], &word, 1) != 1 || (!(flags & CLONE_NEWPID) && getppid() != parent))
        _exit(EXIT_FAILURE);
    close(line[0]);
    return true;
}

void p9_enter_namespaces(struct p9_jail *jail, int folder)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    bool known = readlink(link, folder_path, sizeof folder_path - 1) >= 0;
    if (known && clone_into(jail, NAMESPACES | CLONE_NEWUSER))
        jail->user_namespace = jail->namespaces = true;
    else if (known && jail->as_root && clone_into(jail, NAMESPACES))
        jail->namespaces = true;
    else
        clone_into(jail, 0);
}

/* A /proc that has nothing but this namespace's processes, mounted nowhere; else the host's. */
static int open_own_descriptors(const struct p9_jail *jail)
{
    int proc = -1;
    int setup = jail->namespaces ? (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC) : -1;
    if (setup >= 0 && syscall(SYS_fsconfig, setup, FSCONFIG_SET_STRING, "subset", "pid", 0) == 0 &&
        syscall(SYS_fsconfig, setup, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        proc =
            syscall(SYS_fsmount, setup, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (setup >= 0)
        close(setup);
    int fds = proc >= 0 ? openat(proc, "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (proc >= 0)
        close(proc);
    return fds >= 0 ? fds : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool is_same(int one, int other)
{
    struct stat a, b;
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The folder as a mount of its own, attached nowhere; -1: not possible here. Where something is mounted below it,
 * a user namespace may not have it without: then that is there too, to be read. */
static int clone_folder(const struct p9_jail *jail, int folder)
{
    struct mount_attr closed = {.attr_set =
                                    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY};
    struct mount_attr to_write = {.attr_clr = MOUNT_ATTR_RDONLY};
    struct statfs about;
    if (fstatfs(folder, &about) < 0)
        return -1;
    int root = open_tree(AT_FDCWD, folder_path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (root < 0)
        return -1;
    bool writable = !jail->read_only && !(about.f_flags & ST_RDONLY);
    if (is_same(root, folder) &&
        syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH | AT_RECURSIVE, &closed, sizeof closed) == 0 &&
        (!writable || syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &to_write, sizeof to_write) == 0))
        return root;
    close(root);
    return -1;
}

/* It as this process's root; -1 likewise. */
static int make_root(const struct p9_jail *jail, int folder)
{
    if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    int root = clone_folder(jail, folder);
    if (root < 0)
        return -1;
    if (syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) == 0 && fchdir(root) == 0) {
        bool rest_is_gone = syscall(SYS_pivot_root, ".", ".") == 0 && syscall(SYS_umount2, ".", DETACH) == 0;
        if (rest_is_gone || chroot(".") == 0) /* where the root is no mount, as in a chroot */
            return root;
    }
    close(root);
    return -1;
}

int p9_enter_folder(struct p9_jail *jail, int folder)
{
    int descriptors = open_own_descriptors(jail);
    if (descriptors < 0)
        p9_give_up("it needs /proc", errno);
    int root = jail->namespaces ? make_root(jail, folder) : -1;
    jail->own_root = root >= 0;
    if (root >= 0)
        close(folder);
    if (fchdir(descriptors) < 0)
        p9_give_up("it cannot use /proc", errno);
    close(descriptors);
    return root >= 0 ? root : folder;
}
