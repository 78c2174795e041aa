/* A session: a shell or a command, whose exit status ends the guest. It is on the console, or has pipes of the channel.
 *
 * From the kernel command line:
 *
 * corral.run=COMMAND: what the shell's -c gets, percent-encoded; without it the shell is interactive. Where there is a
 * channel the host is asked instead.
 *
 * corral.status=PORT: the I/O port (hexadecimal) that takes the exit status, one byte. */
#pragma once

#include "channel.h"
#include "freestanding.h"

#include <asm/ioctls.h>
#include <asm/signal.h>
#include <linux/reboot.h>
#include <linux/signalfd.h>
#include <linux/stat.h>
#include <linux/wait.h>

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void percent_decode(char *text)
{
    char *to = text;
    for (; *text; text++) {
        if (*text == '%' && digit(text[1]) >= 0 && digit(text[2]) >= 0) {
            *to++ = digit(text[1]) << 4 | digit(text[2]);
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
}

/* The console as a real terminal, so that it can be a session's controlling one: the kernel's first choice. */
static void open_console(void)
{
    char consoles[256], path[300] = "/dev/";
    const char *name = read_file("/proc/consoles", consoles, sizeof consoles);
    for (char *at = consoles; *at; at++)
        if (*at == ' ')
            *at = 0;
    memcpy(path + 5, name, length(name) + 1);
    long fd = SYSCALL(open, path, O_RDWR, 0, 0, 0);
    if (fd < 0)
        fd = SYSCALL(open, "/dev/console", O_RDWR, 0, 0, 0);
    for (int target = 0; target < 3 && fd >= 0; target++)
        if (fd != target)
            SYSCALL(dup2, fd, target, 0, 0, 0);
    if (fd > 2)
        SYSCALL(close, fd, 0, 0, 0, 0);
    /* The session is ours and not the shell's: when a session's leader ends, its terminal is hung up, and with
     * that goes what the terminal has still to send. */
    SYSCALL(setsid, 0, 0, 0, 0, 0);
    SYSCALL(ioctl, 0, TIOCSCTTY, 1, 0, 0);
}

/* The first of `shells` that is there; interactive without a command. */
static void run_shell(const char *const *shells, const char *const *environment, char *command)
{
    for (; *shells; shells++) {
        const char *arguments[] = {*shells, command ? "-c" : 0, command, 0};
        SYSCALL(execve, *shells, arguments, environment, 0, 0);
    }
    say("corral: init: there is no /bin/sh in this file system\n");
    SYSCALL(exit, 127, 0, 0, 0, 0);
}

/* Waits for `child`, reaping whoever else ends. Returns its status as a shell tells it. */
static int wait_for(long child)
{
    for (;;) {
        int status = 0;
        long pid = SYSCALL(wait4, -1, &status, 0, 0, 0);
        if (pid == child)
            return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
        if (pid < 0 && pid != -4 /* EINTR */)
            return 127;
    }
}

static void report(const char *port, int status)
{
    unsigned char byte = status;
    word number = 0;
    if (port[0] == '0' && (port[1] | 32) == 'x')
        port += 2;
    for (; digit(*port) >= 0; port++)
        number = number << 4 | digit(*port);
    if (SYSCALL(ioperm, number, 1, 1, 0, 0) == 0) {
        __asm__ volatile("outb %0, %1" : : "a"(byte), "d"((unsigned short)number));
        return;
    }
    long fd = SYSCALL(open, "/dev/port", O_WRONLY, 0, 0, 0);
    if (fd < 0 || SYSCALL(pwrite64, fd, &byte, 1, number, 0) != 1)
        say("corral: init: this kernel gives no way to report the exit status\n");
}

static char command_line[8192];

/* Ends the guest when the console has sent all; without a status Corral takes it for a failure. */
__attribute__((noreturn)) static void restart(void)
{
    SYSCALL(ioctl, 0, TCSBRK, 1, 0, 0); /* tcdrain(3) */
    SYSCALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
    for (;;)
        SYSCALL(pause, 0, 0, 0, 0, 0);
}

__attribute__((noreturn)) static void finish(int status)
{
    char port[64];
    SYSCALL(sync, 0, 0, 0, 0, 0);
    if (words >= 0)
        end_channel(status);
    else if (parameter(command_line, "corral.status", port, sizeof port))
        report(port, status);
    restart();
}

static void asked_to_finish(int signal)
{
    (void)signal;
    finish(0);
}

/* What busybox's halt, poweroff and reboot send to the first process. The handler does not return, but the kernel
 * wants to be told where it would return to. */
static void listen_for_the_end(void)
{
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGTERM};
    struct sigaction action = {
        .sa_handler = asked_to_finish, .sa_flags = SA_RESTORER, .sa_restorer = (void (*)(void))asked_to_finish};
    for (word i = 0; i < sizeof signals / sizeof *signals; i++)
        SYSCALL(rt_sigaction, signals[i], &action, 0, sizeof action.sa_mask, 0);
}

/* The same signals, and those of children, as a descriptor. */
static int signals_of_the_end(void)
{
    word set = 1ul << (SIGUSR1 - 1) | 1ul << (SIGUSR2 - 1) | 1ul << (SIGTERM - 1) | 1ul << (SIGCHLD - 1);
    SYSCALL(rt_sigprocmask, SIG_BLOCK, &set, 0, sizeof set, 0);
    return (int)SYSCALL(signalfd4, -1, &set, sizeof set, O_NONBLOCK | O_CLOEXEC, 0);
}

/* Of a process that was just forked: the pipes that it is to have, or else the console. */
static void take_pipes(const int *pipes)
{
    word none = 0;
    SYSCALL(rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none, 0);
    for (int i = 0; i < n_streams; i++)
        SYSCALL(dup2, pipes[i], i, 0, 0, 0);
}

/* Serves the channel until `child` ends, or the guest is asked to; then `child` gets the signal `stop`, 0: that is the
 * end. Returns the status. */
static int serve_until(long child, int signals, int stop)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    SYSCALL(rt_sigaction, SIGPIPE, &ignore, 0, sizeof ignore.sa_mask, 0);
    session_process = child;
    for (;;) {
        struct signalfd_siginfo signal;
        serve_channel(signals);
        while (SYSCALL(read, signals, &signal, sizeof signal, 0, 0) == sizeof signal)
            if (signal.ssi_signo != SIGCHLD && !stop)
                return 0;
            else if (signal.ssi_signo != SIGCHLD)
                SYSCALL(kill, child, stop, 0, 0, 0);
        int status = 0;
        for (long pid; (pid = SYSCALL(wait4, -1, &status, WNOHANG, 0, 0)) > 0;)
            if (pid == child)
                return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
    }
}

/* A command or a shell by the channel; `mode` is what the command line says of it. */
__attribute__((noreturn)) static void channel_session(const char *mode, const char *const *shells,
                                                      const char *const *environment)
{
    static char command[64 * 1024];
    int pipes[3], has_command = -1;
    word bytes;
    if (open_channel() && (mode[0] != 'p' || open_pipes(pipes)))
        has_command = ask_for_session(command, sizeof command, &bytes);
    if (has_command < 0) {
        say("corral: init: this kernel has no ports of virtio-console (CONFIG_VIRTIO_CONSOLE)\n");
        restart();
    }
    int signals = signals_of_the_end();
    long child = SYSCALL(fork, 0, 0, 0, 0, 0);
    if (child == 0) {
        take_pipes(pipes);
        run_shell(shells, environment, has_command ? command : 0);
    }
    for (int i = 0; i < n_streams; i++)
        SYSCALL(close, pipes[i], 0, 0, 0, 0);
    int status = child < 0 ? 127 : serve_until(child, signals, 0);
    drain_streams();
    finish(status);
}

/* What udev makes elsewhere: scripts write to /dev/stderr. */
static void link_streams(void)
{
    SYSCALL(symlink, "/proc/self/fd", "/dev/fd", 0, 0, 0);
    SYSCALL(symlink, "fd/0", "/dev/stdin", 0, 0, 0);
    SYSCALL(symlink, "fd/1", "/dev/stdout", 0, 0, 0);
    SYSCALL(symlink, "fd/2", "/dev/stderr", 0, 0, 0);
}

/* After open_console(). The command line must have been read. */
__attribute__((noreturn, unused)) static void session(const char *const *shells, const char *const *environment)
{
    static char command[8192];
    char mode[16];
    link_streams();
    if (parameter(command_line, "corral.channel", mode, sizeof mode))
        channel_session(mode, shells, environment);
    int has_command = parameter(command_line, "corral.run", command, sizeof command);
    percent_decode(command);
    listen_for_the_end();

    long child = SYSCALL(fork, 0, 0, 0, 0, 0);
    if (child == 0)
        run_shell(shells, environment, has_command ? command : 0);
    finish(child < 0 ? 127 : wait_for(child));
}
