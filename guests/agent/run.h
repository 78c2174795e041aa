/* A command: its streams are pipes or a terminal, apart from each other, and nothing that it does not read or that the
 * host does not take holds up its end, a signal or its time. */
#pragma once

#include "program.h"
#include "tree.h"
#include "user.h"

#include <asm/ioctls.h>
#include <asm/termios.h>
#include <linux/signalfd.h>
#include <linux/time.h>

#define INPUT_ROOM (64 * 1024u) /* input that waits for the command */
#define PIECE (32 * 1024u)      /* of output, in a frame */

/* Of a RUN frame: tag in 8 bits, length in 32, and that. */
#define WORD 'a'   /* of the command */
#define LINE 'l'   /* instead: a line for /bin/sh */
#define SETS 'e'   /* NAME=VALUE */
#define FOLDER 'w'
#define USER 'u'
#define TERMINAL 't' /* rows and columns, 16 bits each */
#define TIME_LIMIT 'T' /* milliseconds, 64 bits */
#define OUTPUT_LIMIT 'o' /* bytes, 64 bits */

enum how { EXITED, SIGNALLED, OUT_OF_TIME, TOO_MUCH_OUTPUT };

static struct {
    const char *line, *folder, *user;
    int has_terminal;
    struct winsize size;
    word time, output; /* 0: no limit */
} asked;

static struct user user;
static char request[MOST + 1];

/* The frame's bytes stay where they are. Each text gets its zero in the place of the next tag, which was read. */
static void read_request(char *at, word size)
{
    const char *end = at + size;
    asked.user = "";
    while (at < end) {
        if (end - at < 5)
            fail(-EPROTO, "a request that is cut off");
        char tag = *at;
        word n = number(at + 1, 4);
        char *value = at + 5;
        *at = 0;
        if (n > (word)(end - value))
            fail(-EPROTO, "a request that is cut off");
        at = value + n;
        switch (tag) {
        case WORD:
            if (!add_word(value))
                fail(-E2BIG, "too many arguments");
            break;
        case LINE:
            asked.line = value;
            break;
        case SETS:
            if (!add_variable(value))
                fail(-E2BIG, "too many variables");
            break;
        case FOLDER:
            asked.folder = value;
            break;
        case USER:
            asked.user = value;
            break;
        case TERMINAL:
            asked.has_terminal = 1;
            if (n == 4)
                asked.size = (struct winsize){.ws_row = number(value, 2), .ws_col = number(value + 2, 2)};
            break;
        case TIME_LIMIT:
            asked.time = n == 8 ? number(value, 8) : 0;
            break;
        case OUTPUT_LIMIT:
            asked.output = n == 8 ? number(value, 8) : 0;
            break;
        default:
            fail(-EPROTO, "a request that this agent does not know");
        }
    }
    if (!program.n_words && !asked.line)
        fail(-EINVAL, "there is no command");
}

/* --- the command's side, after fork(2) --- */

static void complete_variables(void)
{
    static char home[300], name[100], logname[100], shell[300], path[100], terminal[32];
    set_default(path, sizeof path, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set_default(home, sizeof home, "HOME", user.home);
    set_default(name, sizeof name, "USER", user.name);
    set_default(logname, sizeof logname, "LOGNAME", user.name);
    set_default(shell, sizeof shell, "SHELL", user.shell);
    if (asked.has_terminal)
        set_default(terminal, sizeof terminal, "TERM", "xterm");
}

/* Becomes the command. Where it cannot, the errno and what was tried go to `tell`. */
__attribute__((noreturn)) static void become_command(const int theirs[3], int tell)
{
    static char why[8 + 64];
    const word none = 0;
    const char *what = "start it";
    long error;
    SYSCALL(setsid, 0, 0, 0, 0, 0);
    SYSCALL(rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none, 0);
    for (int i = 0; i < 3; i++)
        SYSCALL(dup2, theirs[i], i, 0, 0, 0);
    if (asked.has_terminal)
        SYSCALL(ioctl, 0, TIOCSCTTY, 0, 0, 0);
    error = SYSCALL(setgroups, user.n_groups, user.groups, 0, 0, 0);
    if (!error)
        error = SYSCALL(setresgid, user.gid, user.gid, user.gid, 0, 0);
    if (!error)
        error = SYSCALL(setresuid, user.uid, user.uid, user.uid, 0, 0);
    if (error) {
        what = "become that user";
    } else if (asked.folder) {
        error = SYSCALL(chdir, asked.folder, 0, 0, 0, 0);
        what = error ? "go to that folder" : what;
    } else if (SYSCALL(chdir, user.home, 0, 0, 0, 0) < 0) {
        SYSCALL(chdir, "/", 0, 0, 0, 0);
    }
    complete_variables();
    if (asked.line) {
        static const char *shell[] = {"/bin/sh", "-c", 0, 0};
        shell[2] = asked.line;
        memcpy(program.words, shell, sizeof shell);
    }
    if (!error) {
        error = execute();
        if (error == -ENOENT && !is_path(program.words[0])) /* of Corral's initramfs: its one program has many names */
            error = SYSCALL(execve, "/bin/busybox", program.words, program.variables, 0, 0);
    }
    put_number(why, (word)-error, 4);
    append_text(why + 4, what);
    SYSCALL(write, tell, why, 4 + length(what), 0, 0);
    leave(127);
}

/* --- the agent's side --- */

static int output[2] = {-1, -1}; /* the command's standard output and error; with a terminal the first is both ways */
static int input = -1;
static struct {
    char data[INPUT_ROOM];
    unsigned at, used, taken; /* a ring; `taken`: bytes that the host does not know of yet */
    int ended;
} in;
static struct {
    char space[HEADER + PIECE];
    word at, size; /* what of it is still to be sent */
} out;
static struct {
    char data[HEADER + MOST + 1];
    word used;
} frame;

static void open_terminal(int theirs[3])
{
    int unlocked = 0;
    int master = (int)SYSCALL(open, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
    if (master < 0) {
        SYSCALL(mkdir, "/dev/pts", 0755, 0, 0, 0);
        SYSCALL(mount, "devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666,mode=0620,gid=5");
        master = (int)SYSCALL(open, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
    }
    if (master >= 0 && SYSCALL(ioctl, master, TIOCSPTLCK, &unlocked, 0, 0) == 0)
        theirs[0] = (int)SYSCALL(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC, 0, 0);
    if (theirs[0] < 0)
        fail(theirs[0], "no terminal: is there devpts?");
    SYSCALL(ioctl, master, TIOCSWINSZ, &asked.size, 0, 0);
    SYSCALL(fchown, theirs[0], user.uid, -1, 0, 0);
    theirs[1] = theirs[2] = theirs[0];
    output[0] = input = master;
}

static void open_streams(int theirs[3])
{
    for (int i = 0; i < 3; i++) {
        int ends[2];
        long error = SYSCALL(pipe2, ends, O_CLOEXEC, 0, 0, 0);
        if (error < 0)
            fail(error, "no pipe");
        theirs[i] = ends[i ? 1 : 0];
        int ours = ends[i ? 0 : 1];
        SYSCALL(fcntl, ours, F_SETFL, O_NONBLOCK, 0, 0);
        *(i ? &output[i - 1] : &input) = ours;
    }
}

static void shut(int *fd)
{
    if (*fd >= 0)
        SYSCALL(close, *fd, 0, 0, 0, 0);
    *fd = -1;
}

/* One frame at a time is on its way. */
static void start_frame(unsigned char kind, word size)
{
    put_number(out.space, size, 4);
    put_number(out.space + 4, kind, 4);
    out.at = 0;
    out.size = HEADER + size;
}

/* 0: the host is gone. */
static int push_frame(void)
{
    while (out.size) {
        long n = SYSCALL(write, line, out.space + out.at, out.size, 0, 0);
        if (n == -EAGAIN || n == -EINTR)
            return 1;
        if (n <= 0)
            return 0;
        out.at += n;
        out.size -= n;
    }
    return 1;
}

/* What the command has written, into a frame. 0: nothing at present, or no more. */
static word pull_output(int i)
{
    long n = SYSCALL(read, output[i], out.space + HEADER, PIECE, 0, 0);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0) {
        if (asked.has_terminal)
            input = -1; /* the same descriptor */
        shut(&output[i]);
        return 0;
    }
    start_frame(i ? ERRORS : OUTPUT, n);
    return n;
}

static void push_input(void)
{
    while (in.used && input >= 0) {
        unsigned part = INPUT_ROOM - in.at < in.used ? INPUT_ROOM - in.at : in.used;
        long n = SYSCALL(write, input, in.data + in.at, part, 0, 0);
        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n <= 0) { /* it reads no more */
            n = part;
            if (!asked.has_terminal)
                shut(&input);
        }
        in.at = (in.at + n) % INPUT_ROOM;
        in.used -= n;
        in.taken += n;
    }
    if (input < 0) {
        in.taken += in.used;
        in.used = 0;
    } else if (in.ended && !in.used && !asked.has_terminal) {
        shut(&input);
    }
}

static void take_input(const char *data, word size)
{
    static const char end_of_file = 4; /* Ctrl-D: a terminal has no other end */
    if (!size) {
        in.ended = 1;
        if (asked.has_terminal)
            take_input(&end_of_file, 1);
        return;
    }
    if (size > INPUT_ROOM - in.used)
        fail(-EPROTO, "more input than there was room for");
    for (word i = 0; i < size; i++)
        in.data[(in.at + in.used++) % INPUT_ROOM] = data[i];
}

static void take_frame(unsigned char kind, const char *data, word size, long command)
{
    if (kind == INPUT) {
        take_input(data, size);
    } else if (kind == SIGNAL && size == 1) {
        SYSCALL(kill, -command, (unsigned char)data[0], 0, 0, 0);
    } else if (kind == SIZE && size == 4 && asked.has_terminal) {
        struct winsize to = {.ws_row = number(data, 2), .ws_col = number(data + 2, 2)};
        SYSCALL(ioctl, output[0], TIOCSWINSZ, &to, 0, 0);
    }
}

/* Frames of the host, as far as they have come. 0: it is gone. */
static int take_frames(long command)
{
    for (;;) {
        word size = frame.used < HEADER ? 0 : number(frame.data, 4);
        if (size > MOST)
            return 0;
        if (frame.used >= HEADER && frame.used >= HEADER + size) {
            take_frame(frame.data[4], frame.data + HEADER, size, command);
            frame.used = 0;
            continue;
        }
        long n = SYSCALL(read, line, frame.data + frame.used, HEADER + size - frame.used, 0, 0);
        if (n == -EAGAIN || n == -EINTR)
            return 1;
        if (n <= 0)
            return 0;
        frame.used += n;
    }
}

static word now(void)
{
    struct __kernel_timespec t;
    SYSCALL(clock_gettime, CLOCK_MONOTONIC, &t, 0, 0, 0);
    return (word)t.tv_sec * 1000 + (word)t.tv_nsec / 1000000;
}

static void wait_for_something(int signals, word until)
{
    struct pollfd on[5];
    on[0] = (struct pollfd){.fd = line, .events = out.size ? POLLIN | POLLOUT : POLLIN};
    on[1] = (struct pollfd){.fd = signals, .events = POLLIN};
    on[2] = (struct pollfd){.fd = out.size ? -1 : output[0], .events = POLLIN};
    on[3] = (struct pollfd){.fd = out.size ? -1 : output[1], .events = POLLIN};
    on[4] = (struct pollfd){.fd = in.used ? input : -1, .events = POLLOUT};
    word left = until ? until - now() : 0;
    int most = !until ? -1 : (long)left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left + 1;
    SYSCALL(poll, on, 5, most, 0, 0);
}

/* Whether the command has ended. Others that have become this process's children are reaped too. */
static int reap(int signals, long command, int *status)
{
    struct signalfd_siginfo ignored;
    int ended = 0, found = 0;
    while (SYSCALL(read, signals, &ignored, sizeof ignored, 0, 0) == sizeof ignored)
        ;
    for (long pid; (pid = SYSCALL(wait4, -1, &ended, WNOHANG, 0, 0)) > 0;)
        if (pid == command) {
            *status = ended;
            found = 1;
        }
    return found;
}

static void tell_end(enum how how, int status)
{
    char told[8];
    int signal = status & 0x7f;
    if (how == EXITED && signal)
        how = SIGNALLED;
    put_number(told, how, 4);
    put_number(told + 4, how == EXITED ? (word)(status >> 8 & 0xff) : (word)signal, 4);
    send(ENDED, told, sizeof told);
}

/* What the command has left in its pipes; what others write there later is not waited for. */
static void drain(void)
{
    SYSCALL(fcntl, line, F_SETFL, 0, 0, 0);
    if (!push_frame())
        leave(0);
    for (int i = 0; i < 2; i++)
        for (int piece = 0; piece < 64 && output[i] >= 0 && pull_output(i); piece++)
            if (!push_frame())
                leave(0);
}

static enum how serve_command(int signals, long command, int *status)
{
    word until = asked.time ? now() + asked.time : 0, written = 0;
    for (;;) {
        if (!take_frames(command) || !push_frame()) { /* nobody is there any more who wanted it */
            kill_tree(command, status);
            leave(0);
        }
        push_input();
        if (!out.size && in.taken >= INPUT_ROOM / 2) {
            put_number(out.space + HEADER, in.taken, 4);
            in.taken = 0;
            start_frame(ROOM, 4);
            continue;
        }
        for (int i = 0; i < 2 && !out.size; i++)
            if (output[i] >= 0)
                written += pull_output(i);
        if (!push_frame())
            continue;
        enum how how = asked.output && written > asked.output ? TOO_MUCH_OUTPUT
                       : until && (long)(until - now()) <= 0  ? OUT_OF_TIME
                                                              : EXITED;
        if (how != EXITED) {
            kill_tree(command, status);
            return how;
        }
        if (reap(signals, command, status))
            return EXITED;
        wait_for_something(signals, until);
    }
}

__attribute__((noreturn)) static void run(word size)
{
    int theirs[3] = {-1, -1, -1}, told[2], status = 0;
    char why[HEADER + 8 + 64 + 1];
    read_request(request, size);
    if (!find_user(asked.user, &user))
        fail(-EINVAL, "there is no such user");
    if (asked.has_terminal)
        open_terminal(theirs);
    else
        open_streams(theirs);
    SYSCALL(pipe2, told, O_CLOEXEC, 0, 0, 0);
    SYSCALL(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    word set = 1ul << (SIGCHLD - 1) | 1ul << (SIGPIPE - 1);
    SYSCALL(rt_sigprocmask, SIG_BLOCK, &set, 0, sizeof set, 0);
    set = 1ul << (SIGCHLD - 1);
    int signals = (int)SYSCALL(signalfd4, -1, &set, sizeof set, O_NONBLOCK | O_CLOEXEC, 0);
    long command = SYSCALL(fork, 0, 0, 0, 0, 0);
    if (command == 0)
        become_command(theirs, told[1]);
    if (command < 0)
        fail(command, "no process");
    for (int i = 0; i < (asked.has_terminal ? 1 : 3); i++)
        shut(&theirs[i]);
    shut(&told[1]);
    long n = SYSCALL(read, told[0], why, sizeof why - 1, 0, 0);
    shut(&told[0]);
    if (n > 4) {
        why[n] = 0;
        fail(-(long)number(why, 4), why + 4);
    }
    put_number(why, (word)command, 4);
    send(STARTED, why, 4);
    SYSCALL(fcntl, line, F_SETFL, O_NONBLOCK, 0, 0);
    enum how how = serve_command(signals, command, &status);
    drain();
    tell_end(how, status);
    leave(0);
}
