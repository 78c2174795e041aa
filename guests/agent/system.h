/* What concerns the guest as a whole: its time, its end, whether it is alive, and connections to its programs. */
#pragma once

#include "../init/identity.h"
#include "wire.h"

#include <asm/signal.h>
#include <linux/in.h>
#include <linux/random.h>
#include <linux/socket.h>
#include <linux/sysinfo.h>
#include <linux/time.h>
#include <linux/time_types.h>

#define PF_INET 2
#define STREAM_SOCKET 1
#define SHUT_WR 1

static void set_time(const char *payload, word size)
{
    struct {
        int entropy_count, buf_size;
        unsigned char buf[64];
    } pool = {0};
    if (size < 16 || size > 16 + sizeof pool.buf)
        fail(-EPROTO, "a time that is none");
    struct __kernel_timespec now = {(long)number(payload, 8), (long)number(payload + 8, 8)};
    long error = SYSCALL(clock_settime, CLOCK_REALTIME, &now, 0, 0, 0);
    if (error < 0)
        fail(error, "set the clock");
    pool.buf_size = (int)(size - 16);
    pool.entropy_count = 8 * pool.buf_size;
    memcpy(pool.buf, payload + 16, size - 16);
    long fd = SYSCALL(open, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (pool.buf_size) {
        SYSCALL(ioctl, fd, RNDADDENTROPY, &pool, 0, 0);
        SYSCALL(ioctl, fd, RNDRESEEDCRNG, 0, 0, 0);
    }
    send(DONE, "", 0);
}

/* The guest goes on from a snapshot: Corral asks for this before it connects anything else. */
static void become(const char *payload, word size)
{
    struct beginning begin;
    if (size != sizeof begin)
        fail(-EPROTO, "an identity that is none");
    memcpy(&begin, payload, sizeof begin);
    take_identity(&begin);
    send(DONE, "", 0);
}

/* Seconds that it has run, its load of the last minute in 1/65536, memory, and what is free of it, 64 bits each. */
static void tell_alive(void)
{
    struct sysinfo about = {0};
    char told[32];
    SYSCALL(sysinfo, &about, 0, 0, 0, 0);
    put_number(told, (word)about.uptime, 8);
    put_number(told + 8, about.loads[0], 8);
    put_number(told + 16, about.totalram * about.mem_unit, 8);
    put_number(told + 24, about.freeram * about.mem_unit, 8);
    send(DONE, told, sizeof told);
}

/* By the system's own first process: systemd's signal for it, or that of Corral's init and busybox. */
static void power_off(void)
{
    int systemd = SYSCALL(access, "/run/systemd/system", 0, 0, 0, 0) == 0;
    send(DONE, "", 0);
    SYSCALL(kill, 1, systemd ? 34 + 4 /* SIGRTMIN+4 */ : SIGUSR2, 0, 0, 0);
}

static int pass_on(int from, int to, char *space, word size)
{
    long n = SYSCALL(read, from, space, size, 0, 0);
    if (n > 0)
        return write_whole(to, space, n) ? 1 : -1;
    SYSCALL(shutdown, to, SHUT_WR, 0, 0, 0);
    return 0;
}

/* A TCP port of the guest: bytes go on both ways, and so do their ends. */
static void connect_to_port(const char *payload, word size)
{
    static char bytes[65536];
    struct sockaddr_in to = {.sin_family = PF_INET};
    if (size != 2)
        fail(-EPROTO, "no port");
    word port = number(payload, 2);
    to.sin_port = (unsigned short)(port >> 8 | port << 8);
    to.sin_addr.s_addr = 127 | 1 << 24;
    long fd = SYSCALL(socket, PF_INET, STREAM_SOCKET, 0, 0, 0);
    long error = fd < 0 ? fd : SYSCALL(connect, fd, &to, sizeof to, 0, 0);
    if (error < 0)
        fail(error, "connect to that port");
    send(DONE, "", 0);
    struct pollfd on[2] = {{.fd = line, .events = POLLIN}, {.fd = (int)fd, .events = POLLIN}};
    while (on[0].fd >= 0 || on[1].fd >= 0) {
        SYSCALL(poll, on, 2, -1, 0, 0);
        for (int i = 0; i < 2; i++)
            if (on[i].fd >= 0 && on[i].revents) {
                int more = pass_on(on[i].fd, i ? line : (int)fd, bytes, sizeof bytes);
                if (more < 0)
                    return;
                on[i].fd = more ? on[i].fd : -1;
            }
    }
}
