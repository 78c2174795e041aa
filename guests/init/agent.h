/* Starts the agent (guests/agent), which is /agent of the initramfs, where the kernel command line says corral.agent=1. */
#pragma once

#include "early.h"

static void start_agent(const char *command_line)
{
    static const char *const arguments[] = {"corral-agent", 0}, *const environment[] = {"PATH=/bin:/sbin", 0};
    char wanted[8], modules[] = "/agent-modules/00";
    if (!parameter(command_line, "corral.agent", wanted, sizeof wanted))
        return;
    load_modules_of(modules);
    if (SYSCALL(fork, 0, 0, 0, 0, 0) != 0)
        return;
    SYSCALL(execve, "/agent", arguments, environment, 0, 0);
    say("corral: init: the initramfs has no agent\n");
    SYSCALL(exit, 127, 0, 0, 0, 0);
}
