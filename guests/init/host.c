/* The first process of a guest that looks like its host: mounts the host's file systems, read-only and with a layer of
 * memory over each that takes what the guest writes, and runs a shell or a command there.
 *
 * From the kernel command line, besides those of session.h:
 *
 * corral.mounts=PATH,PATH...: where the host has them, percent-encoded, / first. The first is the share host0.
 *
 * corral.cwd=PATH: where to begin, percent-encoded. */

#include "agent.h"
#include "early.h"
#include "network.h"
#include "session.h"

#define MOUNTS 9

static char *append(char *to, const char *text)
{
    memcpy(to + length(to), text, length(text) + 1);
    return to;
}

static void mount_files(char digit, const char *path)
{
    char tag[] = "host0", lower[] = "/host/0", upper[] = "/layer/upper0", work[] = "/layer/work0";
    static char options[128], target[4096];
    tag[4] = lower[6] = upper[12] = work[11] = digit;
    SYSCALL(mkdir, lower, 0755, 0, 0, 0);
    SYSCALL(mkdir, upper, 0755, 0, 0, 0);
    SYSCALL(mkdir, work, 0755, 0, 0, 0);
    /* Loose: who else writes there is not our concern. */
    must_mount(tag, lower, "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any");
    options[0] = target[0] = 0;
    append(append(append(options, "lowerdir="), lower), ",upperdir=");
    append(append(append(options, upper), ",workdir="), work);
    append(append(target, "/root"), path);
    SYSCALL(mkdir, target, 0755, 0, 0, 0); /* its server may not show what the host has mounted on */
    must_mount("overlay", target, "overlay", 0, options);
}

static void mount_host(void)
{
    static char paths[8192];
    parameter(command_line, "corral.mounts", paths, sizeof paths);
    SYSCALL(mkdir, "/root", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/host", 0755, 0, 0, 0);
    mount("tmpfs", "/layer");
    char *path = paths;
    for (int index = 0; *path && index < MOUNTS; index++) {
        char *end = path;
        while (*end && *end != ',')
            end++;
        char *next = *end ? end + 1 : end;
        *end = 0;
        percent_decode(path);
        mount_files((char)('0' + index), path);
        path = next;
    }
    SYSCALL(umount2, "/proc", 0, 0, 0, 0);
    SYSCALL(mount, "/dev", "/root/dev", 0, MS_MOVE, 0);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    SYSCALL(mount, ".", "/", 0, MS_MOVE, 0);
    SYSCALL(chroot, ".", 0, 0, 0, 0);
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
    int agent = open_agent(command_line);
    mount_host();
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    mount("tmpfs", "/run");
    mount("devpts", "/dev/pts");
    mount("tmpfs", "/dev/shm");
    open_console();
    loopback_up();
    network_up(command_line);
    read_file("/etc/hostname", text, sizeof text);
    SYSCALL(sethostname, text, length(text), 0, 0, 0);
    if (parameter(command_line, "corral.cwd", text, sizeof text)) {
        percent_decode(text);
        SYSCALL(chdir, text, 0, 0, 0, 0);
    }
    run_agent(agent);
    session(shells, environment);
}
