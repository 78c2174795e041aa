/* The guest's end of the channel: ports of a virtio-console that a session's input, output and words to Corral go by.
 *
 * From the kernel command line: corral.channel=pipes or corral.channel=terminal. Port 0 is for words, 8 bytes each; the
 * command comes by it. With pipes ports 1, 2 and 3 are the command's standard input, output and error. The command has
 * pipes all the same, as it would from a shell: a port can be opened once only, and /dev/stderr would be refused. */
#pragma once

#include "freestanding.h"
#include "identity.h"

#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/termios.h>
#include <linux/time_types.h>

#define EAGAIN 11
#define LOOKS 500 /* for a port that is not there yet: ten seconds */
#define ASK_WORD 'R'     /* to the host: the guest is ready for its session, and waits to be told what it is */
#define BEGIN_WORD 'B'   /* from the host: that; a terminal's size too, and so many bytes follow (identity.h). Again
                            when the guest goes on from a snapshot of its session, without a command */
#define SIZE_WORD 'S'    /* from the host: the terminal has so many rows and columns, 0 when there is none */
#define KILL_WORD 'K'    /* from the host: the session's process gets the signal `status` */
#define END_WORD 'E'     /* to the host: the command ended with that status */
#define ARRIVED_WORD 'A' /* from the host: all that was written before the end is where it goes */

struct word_of_channel {
    unsigned char kind, status;
    unsigned short rows, columns, bytes;
};

/* From one descriptor to another, neither of which blocks. */
struct stream {
    int from, to; /* -1: closed */
    word at, used;
    char data[32 * 1024];
};

static long session_process; /* the shell or the command, once it runs */
static int words = -1; /* port 0; -1: there is no channel */
static struct stream streams[3];
static int n_streams; /* 3 with pipes, 0 with a terminal */

/* Between two looks: a short while at first, when it is about to come. */
static void wait_a_while(int look)
{
    struct __kernel_timespec moment = {0, (look < 50 ? 1 : 20) * 1000 * 1000};
    SYSCALL(nanosleep, &moment, 0, 0, 0, 0);
}

/* The device is the only one of its kind; which number Linux gave it depends on the others. */
static int open_port(int port, int flags)
{
    char path[] = "/dev/vport00p0";
    for (int device = 0; device < 32; device++) {
        char *at = path + 10;
        if (device > 9)
            *at++ = (char)('0' + device / 10);
        *at++ = (char)('0' + device % 10);
        *at++ = 'p';
        *at++ = (char)('0' + port);
        *at = 0;
        long fd = SYSCALL(open, path, flags | O_NONBLOCK | O_CLOEXEC, 0, 0, 0);
        if (fd >= 0)
            return (int)fd;
    }
    return -1;
}

static void set_size(const struct word_of_channel *said)
{
    struct winsize size = {.ws_row = said->rows, .ws_col = said->columns};
    if (said->rows && said->columns)
        SYSCALL(ioctl, 0, TIOCSWINSZ, &size, 0, 0);
}

static int read_word(struct word_of_channel *said)
{
    return SYSCALL(read, words, said, sizeof *said, 0, 0) == sizeof *said;
}

/* 0: this kernel has no such ports. When port 0 is there the others are. */
static int open_channel(void)
{
    for (int look = 0; look < LOOKS && words < 0; look++) {
        words = open_port(0, O_RDWR);
        if (words < 0)
            wait_a_while(look);
    }
    return words >= 0;
}

/* 0: the host has not opened the port in ten seconds. */
static int write_word(const struct word_of_channel *said)
{
    for (int look = 0; look < LOOKS; look++) {
        if (SYSCALL(write, words, said, sizeof *said, 0, 0) == sizeof *said)
            return 1;
        wait_a_while(look);
    }
    return 0;
}

static void wait_for_words(void)
{
    struct pollfd on = {.fd = words, .events = POLLIN};
    SYSCALL(poll, &on, 1, -1, 0, 0);
}

static void read_words(char *to, word size)
{
    while (size) {
        long n = SYSCALL(read, words, to, size, 0, 0);
        if (n <= 0) {
            wait_for_words();
            continue;
        }
        to += n;
        size -= n;
    }
}

/* What follows a BEGIN_WORD, before the command. Its `status`: 1 when a command follows, 0 for a shell. */
static void begin(const struct word_of_channel *said)
{
    struct beginning begin;
    read_words((char *)&begin, sizeof begin);
    take_identity(&begin);
    set_size(said);
}

/* Asks what the session is. Returns 1: the command is `command`, `*bytes` of at most `size`, and a zero; 0: a shell; -1:
 * no answer. A snapshot for the next start is taken while this waits. */
static int ask_for_session(char *command, word size, word *bytes)
{
    struct word_of_channel said = {.kind = ASK_WORD};
    if (!write_word(&said))
        return -1;
    do
        wait_for_words();
    while (!read_word(&said) || said.kind != BEGIN_WORD);
    word rest = said.bytes - sizeof(struct beginning);
    if (said.bytes < sizeof(struct beginning) || rest >= size)
        return -1;
    begin(&said);
    read_words(command, rest);
    command[rest] = 0;
    *bytes = rest;
    return said.status;
}

/* Pipes to the command and from it. `theirs` gets the command's ends. 0: there are no such ports. */
static int open_pipes(int theirs[3])
{
    for (int i = 0; i < 3; i++) {
        int ends[2], port = open_port(i + 1, i ? O_WRONLY : O_RDONLY);
        if (port < 0 || SYSCALL(pipe2, ends, O_CLOEXEC, 0, 0, 0) < 0)
            return 0;
        int ours = ends[i ? 0 : 1];
        theirs[i] = ends[i ? 1 : 0];
        SYSCALL(fcntl, ours, F_SETFL, O_NONBLOCK, 0, 0);
        streams[i].from = i ? ours : port;
        streams[i].to = i ? port : ours;
    }
    n_streams = 3;
    return 1;
}

static void close_stream(struct stream *s)
{
    SYSCALL(close, s->from, 0, 0, 0, 0);
    SYSCALL(close, s->to, 0, 0, 0, 0);
    s->from = s->to = -1;
    s->used = 0;
}

/* Moves what can be moved at once, `most` bytes of what is new at most. Returns how many were read. */
static word pump(struct stream *s, word most)
{
    long n = 0;
    if (s->from >= 0 && !s->used && most) {
        n = SYSCALL(read, s->from, s->data, most < sizeof s->data ? most : sizeof s->data, 0, 0);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            close_stream(s);
        s->at = 0;
        s->used = n > 0 ? n : 0;
    }
    while (s->used) {
        long done = SYSCALL(write, s->to, s->data + s->at, s->used, 0, 0);
        if (done < 0 && done != -EAGAIN)
            close_stream(s); /* a command that does not read its input any more */
        if (done <= 0)
            break;
        s->at += done;
        s->used -= done;
    }
    return n > 0 ? n : 0;
}

static void watch(struct pollfd *on, int fd, int events)
{
    on->fd = fd;
    on->events = (short)events;
    on->revents = 0;
}

/* Waits until a stream, a word or the signals' descriptor has something. */
static void wait_for_streams(int signals)
{
    struct pollfd on[2 + 3];
    watch(&on[0], signals, POLLIN);
    watch(&on[1], words, POLLIN);
    for (int i = 0; i < n_streams; i++)
        watch(&on[2 + i], streams[i].used ? streams[i].to : streams[i].from, streams[i].used ? POLLOUT : POLLIN);
    SYSCALL(poll, on, 2 + n_streams, -1, 0, 0);
}

/* One round of everything but signals. */
static void serve_channel(int signals)
{
    struct word_of_channel said;
    wait_for_streams(signals);
    while (read_word(&said))
        if (said.kind == BEGIN_WORD)
            begin(&said);
        else if (said.kind == SIZE_WORD)
            set_size(&said);
        else if (said.kind == KILL_WORD && session_process > 0)
            SYSCALL(kill, session_process, said.status, 0, 0, 0);
    for (int i = 0; i < n_streams; i++)
        pump(&streams[i], sizeof streams[i].data);
}

/* What the command has left in its pipes. Its children may write on: that is not waited for. */
static void drain_streams(void)
{
    for (int i = 1; i < n_streams; i++) {
        struct stream *s = &streams[i];
        int left = 0;
        SYSCALL(ioctl, s->from, FIONREAD, &left, 0, 0);
        while (s->from >= 0 && (s->used || left > 0)) {
            left -= (int)pump(s, left > 0 ? left : 0);
            if (s->used) {
                struct pollfd on = {.fd = s->to, .events = POLLOUT};
                SYSCALL(poll, &on, 1, -1, 0, 0);
            }
        }
    }
}

/* Tells the status, and returns when the host has all that was written. */
static void end_channel(int status)
{
    struct word_of_channel said = {.kind = END_WORD, .status = (unsigned char)status};
    SYSCALL(write, words, &said, sizeof said, 0, 0);
    do
        wait_for_words();
    while (!read_word(&said) || said.kind != ARRIVED_WORD);
}
