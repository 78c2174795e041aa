/* The agent's end of the protocol (docs/agent.md): frames on a connection of virtio-vsock, both ways.
 *
 * A frame is its payload's length (32 bits, little endian), its kind, three bytes of zero, and the payload. */
#pragma once

#include "text.h"

#include <asm/fcntl.h>
#include <asm/poll.h>

#define VERSION 1
#define PORT 25455            /* of the guest, "co" */
#define MOST 65536            /* bytes of a payload */
#define HEADER 8

/* From the agent. */
#define HELLO 'V'   /* "corral-agent", and its version in 16 bits: the first frame */
#define DONE 'K'    /* it was done; what there is to tell of it follows */
#define FAILED 'N'  /* errno in 32 bits, and words */
#define STARTED 'p' /* a command runs: its process, in 32 bits */
#define OUTPUT 'O'
#define ERRORS 'E'
#define ROOM 'c' /* so many bytes more of input may come, in 32 bits */
#define ENDED 'Q' /* how in 8 bits (enum how), 3 bytes of zero, and a status or signal in 32 bits */

/* To the agent: a request, the first frame. */
#define RUN 'X'
#define READ 'R'    /* a path */
#define WRITE 'P'   /* mode in 32 bits, 1 to append in 32 bits, and a path; then DATA and END */
#define STAT 's'    /* a path */
#define LIST 'l'    /* a path */
#define MAKE 'm'    /* mode in 32 bits, and a path: a folder and those above it */
#define REMOVE 'x'  /* a path */
#define PACK 'A'    /* a path */
#define UNPACK 'U'  /* a path; then ENTRY, DATA, HOLE and END */
#define MOUNT 'M'   /* 1 in 32 bits: only to be read; source, target, kind and options, each with a zero behind it */
#define UNMOUNT 'u' /* a path */
#define CONNECT 'C' /* a TCP port of the guest in 16 bits; after DONE there are no frames any more */
#define TIME 'T'    /* seconds and nanoseconds since 1970 in 64 bits each, and random bytes */
#define IDENTITY 'i' /* struct beginning of init/identity.h */
#define ALIVE 'H'
#define POWER_OFF 'F'

/* To the agent, of a command that runs. */
#define INPUT 'I'  /* with nothing in it: there is no more */
#define SIGNAL 'S' /* its number in 8 bits */
#define SIZE 'W'   /* a terminal's rows and columns in 16 bits each */

/* Both ways, of files. */
#define DATA 'D'
#define HOLE 'h'  /* bytes of zero that are not stored, their number in 64 bits */
#define ENTRY 'e' /* struct entry, a name, and what a link points to */
#define END 'Z'

#define EINTR 4
#define ENOENT 2
#define EIO 5
#define E2BIG 7
#define ENOMEM 12
#define EEXIST 17
#define EINVAL 22
#define EAGAIN 11
#define ENAMETOOLONG 36
#define EPROTO 71

struct frame {
    unsigned length;
    unsigned char kind, zero[3];
};

static void put_number(char *to, word value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (char)(value >> 8 * i);
}

static word number(const char *from, int bytes)
{
    word value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (word)(unsigned char)from[i] << 8 * i;
    return value;
}

__attribute__((noreturn)) static void leave(int status)
{
    for (;;)
        SYSCALL(exit_group, status, 0, 0, 0, 0);
}

/* All of it, or 0: the other side has gone. */
static int write_whole(int fd, const char *data, word size)
{
    while (size) {
        long n = SYSCALL(write, fd, data, size, 0, 0);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN) {
            struct pollfd on = {.fd = fd, .events = POLLOUT};
            SYSCALL(poll, &on, 1, -1, 0, 0);
            continue;
        }
        if (n <= 0)
            return 0;
        data += n;
        size -= n;
    }
    return 1;
}

static int read_whole(int fd, char *data, word size)
{
    while (size) {
        long n = SYSCALL(read, fd, data, size, 0, 0);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN) {
            struct pollfd on = {.fd = fd, .events = POLLIN};
            SYSCALL(poll, &on, 1, -1, 0, 0);
            continue;
        }
        if (n <= 0)
            return 0;
        data += n;
        size -= n;
    }
    return 1;
}

static int line = -1; /* the connection */

/* A frame whose payload has `HEADER` bytes free before it. The process ends where nobody is left to read it. */
static void send_in_place(unsigned char kind, char *payload, word size)
{
    put_number(payload - HEADER, size, 4);
    put_number(payload - HEADER + 4, kind, 4);
    if (!write_whole(line, payload - HEADER, size + HEADER))
        leave(0);
}

static void send(unsigned char kind, const void *payload, word size)
{
    char frame[HEADER + 512];
    if (size > sizeof frame - HEADER)
        size = sizeof frame - HEADER;
    memcpy(frame + HEADER, payload, size);
    send_in_place(kind, frame + HEADER, size);
}

/* Tells why not, and ends. `error`: as a system call gave it, negative. */
__attribute__((noreturn)) static void fail(long error, const char *words)
{
    char frame[HEADER + 512];
    word size = length(words);
    size = size < 500 ? size : 500;
    put_number(frame + HEADER, (word)-error, 4);
    memcpy(frame + HEADER + 4, words, size);
    send_in_place(FAILED, frame + HEADER, 4 + size);
    leave(0);
}

/* The next frame, with a zero behind it, in `payload` of MOST + 1 bytes. Ends the process where there is none, or one
 * that is too long. */
static unsigned char receive(char *payload, word *size)
{
    struct frame head;
    if (!read_whole(line, (char *)&head, sizeof head))
        leave(0);
    if (head.length > MOST)
        fail(-EPROTO, "a frame is too long");
    if (!read_whole(line, payload, head.length))
        leave(0);
    payload[head.length] = 0;
    *size = head.length;
    return head.kind;
}
