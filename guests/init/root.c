/* The first process of a distribution's guest: loads the modules that its root disk needs, mounts it, and becomes
 * the distribution's own init. It lives in an initramfs that Corral makes of the kernel's package
 * (guests/root_initramfs.py).
 *
 * The modules are /modules/00, /modules/01 and so on, in the order in which they are to be loaded.
 *
 * From the kernel command line: root=/dev/NAME and init=PATH, as without an initramfs. The file system is ext4. */

#include "freestanding.h"

#include <linux/reboot.h>
#include <linux/time_types.h>

#define PATIENCE 1000 /* looks for the root disk, a hundredth of a second apart: an emulated host is slow */

static char command_line[8192];

__attribute__((noreturn)) static void give_up(const char *why)
{
    say("corral: init: ");
    say(why);
    say("\n");
    SYSCALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
    for (;;)
        SYSCALL(pause, 0, 0, 0, 0, 0);
}

static void load_modules(void)
{
    char path[] = "/modules/00";
    for (int number = 0; number < 100; number++) {
        path[9] = (char)('0' + number / 10);
        path[10] = (char)('0' + number % 10);
        long fd = SYSCALL(open, path, O_RDONLY, 0, 0, 0);
        if (fd < 0)
            return;
        /* One that fails is not needed after all, or its absence is told by what needs it. */
        SYSCALL(finit_module, fd, "", 0, 0, 0);
        SYSCALL(close, fd, 0, 0, 0, 0);
    }
}

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
    static char disk[256] = "/dev/vda", init[256] = "/sbin/init";
    mount("devtmpfs", "/dev");
    mount("proc", "/proc");
    read_file("/proc/cmdline", command_line, sizeof command_line);
    parameter(command_line, "root", disk, sizeof disk);
    parameter(command_line, "init", init, sizeof init);
    load_modules();
    mount_root(disk);
    SYSCALL(umount2, "/proc", 0, 0, 0, 0);
    SYSCALL(mount, "/dev", "/root/dev", 0, MS_MOVE, 0);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    SYSCALL(mount, ".", "/", 0, MS_MOVE, 0);
    SYSCALL(chroot, ".", 0, 0, 0, 0);
    const char *arguments[] = {init, 0};
    SYSCALL(execve, init, arguments, environment, 0, 0);
    give_up("the root file system has no such init");
}
