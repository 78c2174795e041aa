/* The first process of a distribution's guest: loads the modules that its root disk needs, mounts it, and becomes
 * the distribution's own init. It lives in an initramfs that Corral makes of the kernel's package
 * (guests/root_initramfs.py).
 *
 * From the kernel command line: root=/dev/NAME and init=PATH, as without an initramfs. The file system is ext4. With
 * corral.channel= the system is to run a command, with corral.net= it is to have a network (service.h). */

#include "early.h"
#include "resolver.h"
#include "service.h"

#include <linux/time_types.h>

#define PATIENCE 1000 /* looks for the root disk, a hundredth of a second apart: an emulated host is slow */

static char command_line[8192];

static void mount_root(const char *disk)
{
    struct __kernel_timespec moment = {0, 10 * 1000 * 1000};
    SYSCALL(mkdir, "/root", 0755, 0, 0, 0);
    for (int look = 0; look < PATIENCE; look++) {
        if (SYSCALL(mount, disk, "/root", "ext4", 0, 0) == 0)
            return;
        SYSCALL(nanosleep, &moment, 0, 0, 0, 0);
    }
    give_up("the root disk is not there, or is no ext4 file system");
}

__attribute__((noreturn, used)) static void start(void)
{
    static const char *environment[] = {"HOME=/", "TERM=linux", 0};
    static char disk[256] = "/dev/vda", init[256] = "/sbin/init", channel[16], cards[1024], agent[8];
    int has_command, has_network, has_agent;
    mount("devtmpfs", "/dev");
    mount("proc", "/proc");
    read_file("/proc/cmdline", command_line, sizeof command_line);
    parameter(command_line, "root", disk, sizeof disk);
    parameter(command_line, "init", init, sizeof init);
    load_modules();
    mount_root(disk);
    has_command = parameter(command_line, "corral.channel", channel, sizeof channel);
    has_network = parameter(command_line, "corral.net", cards, sizeof cards);
    has_agent = parameter(command_line, "corral.agent", agent, sizeof agent);
    if (has_command || has_network || has_agent)
        mount_run();
    if (has_command)
        put_command();
    if (has_network) {
        put_network();
        use_resolver(cards, "/root/etc", "/root/etc/resolv.conf");
    }
    if (has_agent)
        put_agent();
    SYSCALL(umount2, "/proc", 0, 0, 0, 0);
    SYSCALL(mount, "/dev", "/root/dev", 0, MS_MOVE, 0);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    SYSCALL(mount, ".", "/", 0, MS_MOVE, 0);
    SYSCALL(chroot, ".", 0, 0, 0, 0);
    const char *arguments[] = {init, 0};
    SYSCALL(execve, init, arguments, environment, 0, 0);
    give_up("the root file system has no such init");
}
