/* Starts the agent (guests/agent), which is /agent of the initramfs, where the kernel command line says corral.agent=1. */
#pragma once

#include "early.h"

static int agent = -1; /* its program */

/* While the initramfs is the root. */
static void find_agent(const char *command_line)
{
    char wanted[8], modules[] = "/agent-modules/00";
    if (!parameter(command_line, "corral.agent", wanted, sizeof wanted))
        return;
    load_modules_of(modules);
    agent = (int)SYSCALL(open, "/agent", O_PATH | O_CLOEXEC, 0, 0, 0);
}

/* It serves the root that there is now. */
static void start_agent(void)
{
    static const char *const arguments[] = {"corral-agent", 0}, *const environment[] = {"PATH=/bin:/sbin", 0};
    if (agent < 0 || SYSCALL(fork, 0, 0, 0, 0, 0) != 0)
        return;
    SYSCALL(execveat, agent, "", arguments, environment, AT_EMPTY_PATH);
    say("corral: init: the initramfs has no agent\n");
    SYSCALL(exit, 127, 0, 0, 0, 0);
}
