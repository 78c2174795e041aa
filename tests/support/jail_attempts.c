/* What a shared folder's server might try that a guest has taken over: `jail_attempts ro|rw FOLDER NUMBER LAYERS`.
 *
 * LAYERS is "all", "bare" (without the filter of system calls) or "none". Says "done" if it has worked, else
 * "refused"; the filter ends it before it can say anything. */
#define _GNU_SOURCE
#include "jail.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int folder;

_Noreturn void p9_give_up(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(EXIT_FAILURE);
}

void p9_fids_init(uint32_t most)
{
    (void)most;
}

static bool can_read(const char *path, int from)
{
    char byte;
    int fd = openat(from, path, O_RDONLY);
    return fd >= 0 && pread(fd, &byte, 1, 0) == 1;
}

static bool file_outside(void)
{
    return can_read("/etc/passwd", AT_FDCWD) || can_read("/proc/self/status", AT_FDCWD);
}

static bool way_up(void)
{
    return can_read("../secret", folder) || can_read("../../../../../../../../etc/passwd", folder) ||
           can_read("../../../../../../../../etc/passwd", AT_FDCWD);
}

static bool by_socket(void)
{
    return can_read("0/../../../../etc/passwd", AT_FDCWD) || can_read("../root/etc/passwd", AT_FDCWD) ||
           can_read("../cwd/../../etc/passwd", AT_FDCWD) || can_read("../root/proc/version", AT_FDCWD);
}

static bool host_processes(void)
{
    char path[64];
    for (pid_t pid = 2; pid < 40000; pid++) {
        snprintf(path, sizeof path, "../../%d/cmdline", pid);
        if (can_read(path, AT_FDCWD))
            return true;
    }
    return can_read("../../1/root/etc/passwd", AT_FDCWD) || can_read("../../version", AT_FDCWD) ||
           can_read("/proc/1/environ", AT_FDCWD);
}

static bool program(void)
{
    /* By its descriptor, which needs no name. */
    int fd = open("/bin/true", O_RDONLY);
    char *const words[] = {"true", NULL};
    if (fd < 0)
        return false;
    if (vfork() == 0) {
        fexecve(fd, words, words);
        _exit(9);
    }
    int status;
    return wait(&status) > 0 && status == 0;
}

static bool a_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static bool process(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child > 0;
}

static bool mounting(void)
{
    return mount("devtmpfs", "/", "devtmpfs", 0, NULL) == 0 || mount("none", ".", "tmpfs", 0, NULL) == 0;
}

static bool namespace(void)
{
    return unshare(CLONE_NEWUSER) == 0 && unshare(CLONE_NEWNS) == 0 && mount("none", "/", "tmpfs", 0, NULL) == 0;
}

static bool leave_root(void)
{
    return chroot("..") == 0 || fchdir(folder) < 0 || (chdir("..") == 0 && can_read("secret", AT_FDCWD));
}

static bool other_user(void)
{
    return setresuid(1, 1, 1) == 0;
}

static bool trace(void)
{
    return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0; /* of another it would stop the tests */
}

static bool kill_vmm(void)
{
    return kill(-1, 0) == 0;
}

static bool executable(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool uring(void)
{
    struct io_uring_params p = {0};
    return syscall(SYS_io_uring_setup, 4, &p) >= 0;
}

static bool device(void)
{
    return mknodat(folder, "device", S_IFBLK | 0600, makedev(8, 0)) == 0;
}

static bool set_uid_file(void)
{
    return openat(folder, "set-uid", O_CREAT | O_WRONLY, 04755) >= 0;
}

static bool set_uid_bit(void)
{
    openat(folder, "file", O_CREAT | O_WRONLY, 0755);
    return fchmodat(folder, "file", 04755, 0) == 0;
}

static bool bpf(void)
{
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes) >= 0;
}

static bool by_handle(void)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[128];
    } name = {.handle.handle_bytes = 128};
    int mount;
    return name_to_handle_at(folder, "", &name.handle, &mount, AT_EMPTY_PATH) == 0 &&
           open_by_handle_at(folder, &name.handle, O_RDONLY) >= 0;
}

static bool log_of_kernel(void)
{
    char text[16];
    return klogctl(3, text, sizeof text) >= 0;
}

static bool host_name(void)
{
    return sethostname("taken", 5) == 0;
}

/* In namespaces where mounts and the host's name are its own. */
static bool is_apart(void)
{
    return unshare(CLONE_NEWNS | CLONE_NEWUTS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* In the order of ATTEMPTS in tests/unit/virtio/test_folder_server.py. */
static bool (*const attempts[])(void) = {
    file_outside, way_up,      by_socket,  host_processes, program,       a_socket,   process, mounting,
    namespace,    leave_root,  other_user, trace,          kill_vmm,      executable, uring,   device,
    set_uid_file, set_uid_bit, bpf,        by_handle,      log_of_kernel, host_name,
};

int main(int argc, char **argv)
{
    struct p9_jail jail = {.read_only = argc > 1 && !strcmp(argv[1], "ro"), .as_root = geteuid() == 0};
    if (argc != 5 || (size_t)atoi(argv[3]) >= sizeof attempts / sizeof *attempts)
        return 2;
    folder = atoi(argv[2]);
    alarm(30);
    if (strcmp(argv[4], "none") != 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        p9_enter_namespaces(&jail, folder);
        folder = p9_enter_folder(&jail, folder);
        p9_landlock(&jail, folder);
        p9_drop_capabilities(&jail);
        p9_limit();
        if (!strcmp(argv[4], "all"))
            p9_filter(&jail);
    } else if (!is_apart() || fchdir(folder) < 0) {
        return 2; /* what is tried would be done to this machine */
    }
    const char *said = attempts[atoi(argv[3])]() ? "done\n" : "refused\n";
    return write(STDOUT_FILENO, said, strlen(said)) < 0;
}
