/* A command and all that it has started. The agent's process of a command is their subreaper (prctl(2)): whose parent
 * ends becomes its child, and is found there. */
#pragma once

#include "wire.h"

#include <asm/signal.h>
#include <linux/prctl.h>
#include <linux/time_types.h>
#include <linux/wait.h>

#define DEEPEST 64
#define ROUNDS 200 /* of a hundredth of a second, for those that start others as fast as they are killed */

/* Kills the descendants of a process. */
static void kill_children_of(long pid, int deep)
{
    char path[96], text[4096];
    append_text(append_number(append_text(append_number(append_text(path, "/proc/"), (word)pid), "/task/"), (word)pid),
                "/children");
    read_file(path, text, sizeof text);
    for (const char *at = text; *at;) {
        word child = 0;
        for (; *at >= '0' && *at <= '9'; at++)
            child = child * 10 + (*at - '0');
        if (!child || *at != ' ') /* the last one, cut off: it is found in the next round */
            return;
        at++;
        SYSCALL(kill, child, SIGSTOP, 0, 0, 0); /* it starts no more while its children are looked for */
        if (deep < DEEPEST)
            kill_children_of((long)child, deep + 1);
        SYSCALL(kill, child, SIGKILL, 0, 0, 0);
    }
}

/* Kills all, and waits for them. `status` gets that of `command`, if it ends here. */
static void kill_tree(long command, int *status)
{
    const struct __kernel_timespec moment = {0, 10 * 1000 * 1000};
    for (int round = 0; round < ROUNDS; round++) {
        int ended = 0;
        long pid = 0;
        SYSCALL(kill, -command, SIGKILL, 0, 0, 0);
        kill_children_of(SYSCALL(getpid, 0, 0, 0, 0, 0), 0);
        while ((pid = SYSCALL(wait4, -1, &ended, WNOHANG, 0, 0)) > 0)
            if (pid == command)
                *status = ended;
        if (pid < 0)
            return;
        SYSCALL(nanosleep, &moment, 0, 0, 0, 0);
    }
}
