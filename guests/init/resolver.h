/* Which resolver a guest asks for names, by its kernel's command line (network.h). */
#pragma once

#include "freestanding.h"

/* Reads ADDRESS at `*at` and goes behind it and one more character. */
static unsigned take_address(const char **at)
{
    unsigned char octets[4] = {0};
    unsigned result;
    for (int i = 0; i < 4; i++) {
        for (; **at >= '0' && **at <= '9'; ++*at)
            octets[i] = (unsigned char)(octets[i] * 10 + (**at - '0'));
        if (**at)
            ++*at;
    }
    memcpy(&result, octets, sizeof result);
    return result;
}

/* Writes resolv.conf at `path` with the resolvers of all cards, in their order. An older file, or a link to what some
 * daemon writes, is replaced. */
static void use_resolver(const char *words, const char *folder, const char *path)
{
    static const char line[] = "nameserver ";
    const char *at = words;
    long fd = -1;
    while (*at) {
        for (int commas = 0; *at && commas < 2; at++)
            commas += *at == ',';
        const char *begin = at;
        if (!take_address(&at))
            continue;
        if (fd < 0) {
            SYSCALL(mkdir, folder, 0755, 0, 0, 0);
            SYSCALL(unlink, path, 0, 0, 0, 0);
            fd = SYSCALL(open, path, O_WRONLY | O_CREAT, 0644, 0, 0);
        }
        SYSCALL(write, fd, line, sizeof line - 1, 0, 0);
        SYSCALL(write, fd, begin, (word)(at - begin) - (at[-1] == '+'), 0, 0);
        SYSCALL(write, fd, "\n", 1, 0, 0);
    }
    if (fd >= 0)
        SYSCALL(close, fd, 0, 0, 0, 0);
}
