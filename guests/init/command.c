/* What runs COMMAND in a distribution's guest (`corral boot debian -- COMMAND`): a service of its systemd, or its first
 * process where there is no systemd. root.c puts it into /run. */

#include "session.h"

static void mount_what_systemd_would(void)
{
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    mount("devpts", "/dev/pts");
    mount("tmpfs", "/dev/shm");
    mount("tmpfs", "/tmp");
}

__attribute__((noreturn, used)) static void start(void)
{
    static const char *const shells[] = {"/bin/bash", "/bin/sh", 0};
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root",
        "LOGNAME=root", "SHELL=/bin/bash", "TERM=xterm", "LANG=C.UTF-8", 0};
    if (SYSCALL(getpid, 0, 0, 0, 0, 0) == 1)
        mount_what_systemd_would();
    open_console();
    read_file("/proc/cmdline", command_line, sizeof command_line);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    session(shells, environment);
}
