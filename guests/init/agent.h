/* Starts the agent (guests/agent), which is /agent of the initramfs, where the kernel command line says corral.agent=1. */
#pragma once

#include "early.h"

/* Its program, while the initramfs is there; -1: it is not wanted, or there is none. */
static int open_agent(const char *command_line)
{
    char wanted[8], modules[] = "/agent-modules/00";
    if (!parameter(command_line, "corral.agent", wanted, sizeof wanted))
        return -1;
    load_modules_of(modules);
    long fd = SYSCALL(open, "/agent", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        say("corral: init: the initramfs has no agent\n");
    return (int)fd;
}

/* In the system that there is by now. */
static void run_agent(int program)
{
    static const char *const arguments[] = {"corral-agent", 0},
                            *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", 0};
    if (program < 0)
        return;
    if (SYSCALL(fork, 0, 0, 0, 0, 0) == 0) {
        SYSCALL(execveat, program, "", arguments, environment, AT_EMPTY_PATH);
        say("corral: init: the agent cannot be run\n");
        SYSCALL(exit, 127, 0, 0, 0, 0);
    }
    SYSCALL(close, program, 0, 0, 0, 0);
}
