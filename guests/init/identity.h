/* A guest may be one of many that go on from the same snapshot: what they would have in common comes from this host, at
 * this moment, by the channel (channel.h) or to the agent. */
#pragma once

#include "freestanding.h"
#include "interface.h"

#include <asm/fcntl.h>
#include <linux/random.h>
#include <linux/time.h>
#include <linux/time_types.h>

#define TOLD_CARDS 8

/* Without a name, or a machine id, it keeps what it has. */
struct beginning {
    unsigned char random[64];
    long long seconds, nanoseconds; /* since 1970 */
    char name[64];                  /* of the host, padded with zeros */
    unsigned char machine[16];      /* for /etc/machine-id */
    struct card cards[TOLD_CARDS];
};

/* The kernel's random numbers come from these bytes too from now on. */
static void take_random(const unsigned char *bytes)
{
    struct {
        int entropy_count, buf_size; /* bits and bytes, struct rand_pool_info */
        unsigned char buf[sizeof((struct beginning *)0)->random];
    } pool = {8 * sizeof pool.buf, sizeof pool.buf, {0}};
    memcpy(pool.buf, bytes, sizeof pool.buf);
    long fd = SYSCALL(open, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    SYSCALL(ioctl, fd, RNDADDENTROPY, &pool, 0, 0);
    SYSCALL(ioctl, fd, RNDRESEEDCRNG, 0, 0, 0);
    SYSCALL(close, fd, 0, 0, 0, 0);
}

static void take_name(const char *name, word size)
{
    word n = 0;
    while (n < size && name[n])
        n++;
    if (n)
        SYSCALL(sethostname, name, n, 0, 0, 0);
}

/* Into the file, if the guest has one and can write it. */
static void take_machine(const unsigned char *id)
{
    static const char digits[] = "0123456789abcdef";
    char text[33];
    unsigned char any = 0;
    for (int i = 0; i < 16; i++) {
        text[2 * i] = digits[id[i] >> 4];
        text[2 * i + 1] = digits[id[i] & 15];
        any |= id[i];
    }
    text[32] = '\n';
    long fd = any ? SYSCALL(open, "/etc/machine-id", O_WRONLY | O_TRUNC | O_CLOEXEC, 0, 0, 0) : -1;
    if (fd < 0)
        return;
    SYSCALL(write, fd, text, sizeof text, 0, 0);
    SYSCALL(close, fd, 0, 0, 0, 0);
}

static void take_identity(const struct beginning *begin)
{
    take_random(begin->random);
    struct __kernel_timespec now = {begin->seconds, begin->nanoseconds};
    SYSCALL(clock_settime, CLOCK_REALTIME, &now, 0, 0, 0);
    take_name(begin->name, sizeof begin->name);
    take_machine(begin->machine);
    take_cards(begin->cards, TOLD_CARDS);
}
