/* The first process of a guest that looks like its host: mounts the host's files, read-only and with a layer of memory
 * over them that takes what the guest writes, and runs a shell or a command there.
 *
 * From the kernel command line, besides those of session.h:
 *
 * corral.uid=N: whose rights the server of the files has. corral.cwd=PATH: where to begin, percent-encoded. */

#include "early.h"
#include "session.h"

#include <linux/sockios.h>

static void append(char *to, const char *text)
{
    memcpy(to + length(to), text, length(text) + 1);
}

static void must_mount(const char *what, const char *where, const char *type, word flags, const char *options)
{
    SYSCALL(mkdir, where, 0755, 0, 0, 0);
    if (SYSCALL(mount, what, where, type, flags, options) == 0)
        return;
    say("corral: init: cannot mount the host's files: ");
    give_up(type);
}

static void mount_host(void)
{
    /* One user for all: whose rights count is the server's own. Nobody else writes there as far as we care. */
    char options[160] = "trans=virtio,version=9p2000.L,aname=/,msize=262144,cache=loose,access=any,dfltuid=";
    char uid[32] = "0";
    parameter(command_line, "corral.uid", uid, 16);
    append(options, uid);
    must_mount("host", "/host", "9p", MS_RDONLY, options);
    must_mount("tmpfs", "/layer", "tmpfs", 0, 0);
    SYSCALL(mkdir, "/layer/upper", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/layer/work", 0755, 0, 0, 0);
    must_mount("overlay", "/root", "overlay", 0, "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work");
    SYSCALL(umount2, "/proc", 0, 0, 0, 0);
    SYSCALL(mount, "/dev", "/root/dev", 0, MS_MOVE, 0);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    SYSCALL(mount, ".", "/", 0, MS_MOVE, 0);
    SYSCALL(chroot, ".", 0, 0, 0, 0);
}

static void loopback_up(void)
{
    /* struct ifreq and IFF_UP, whose header needs a C library's. */
    struct {
        char name[16];
        short flags;
        char rest[22];
    } request = {.name = "lo", .flags = 1};
    long fd = SYSCALL(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0, 0, 0);
    SYSCALL(ioctl, fd, SIOCSIFFLAGS, &request, 0, 0);
    SYSCALL(close, fd, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) static void start(void)
{
    static const char *const shells[] = {"/bin/bash", "/bin/sh", 0};
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root",
        "LOGNAME=root", "SHELL=/bin/bash", "TERM=xterm", 0};
    static char text[4096];
    mount("devtmpfs", "/dev");
    mount("proc", "/proc");
    read_file("/proc/cmdline", command_line, sizeof command_line);
    load_modules();
    mount_host();
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    mount("tmpfs", "/run");
    mount("devpts", "/dev/pts");
    mount("tmpfs", "/dev/shm");
    open_console();
    loopback_up();
    read_file("/etc/hostname", text, sizeof text);
    SYSCALL(sethostname, text, length(text), 0, 0, 0);
    if (parameter(command_line, "corral.cwd", text, sizeof text)) {
        percent_decode(text);
        SYSCALL(chdir, text, 0, 0, 0, 0);
    }
    session(shells, environment);
}
