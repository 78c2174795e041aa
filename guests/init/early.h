/* What the inits share whose initramfs has a kernel's modules in it, by their names, and links to them in the order in
 * which they are to be loaded: /modules/00, /modules/01 and so on, and those of the agent likewise in /agent-modules
 * (guests/root_initramfs.py). */
#pragma once

#include "freestanding.h"

#include <linux/reboot.h>

__attribute__((noreturn, unused)) static void give_up(const char *why)
{
    say("corral: init: ");
    say(why);
    say("\n");
    SYSCALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
    for (;;)
        SYSCALL(pause, 0, 0, 0, 0, 0);
}

__attribute__((unused)) static void must_mount(const char *what, const char *where, const char *type, word flags,
                                               const char *options)
{
    if (SYSCALL(mount, what, where, type, flags, options) == 0)
        return;
    say("corral: init: cannot mount ");
    say(where);
    say(" as ");
    give_up(type);
}

/* `path` ends with two digits, which are changed. */
static void load_modules_of(char *path)
{
    char *digits = path + length(path) - 2;
    for (int number = 0; number < 100; number++) {
        digits[0] = (char)('0' + number / 10);
        digits[1] = (char)('0' + number % 10);
        long fd = SYSCALL(open, path, O_RDONLY, 0, 0, 0);
        if (fd < 0)
            return;
        /* One that fails is not needed after all, or its absence is told by what needs it. */
        SYSCALL(finit_module, fd, "", 0, 0, 0);
        SYSCALL(close, fd, 0, 0, 0, 0);
    }
}

static void load_modules(void)
{
    char path[] = "/modules/00";
    load_modules_of(path);
}
