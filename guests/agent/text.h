/* Text without a C library: what the agent and the inits compare and put together. */
#pragma once

#include "../init/freestanding.h"

__attribute__((unused)) static int same(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

__attribute__((unused)) static int begins(const char *text, const char *with)
{
    while (*with && *text == *with)
        text++, with++;
    return !*with;
}

/* These return where the text ends. */
__attribute__((unused)) static char *append_number(char *to, word value)
{
    char digits[24];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *to++ = digits[--n];
    *to = 0;
    return to;
}

__attribute__((unused)) static char *append_text(char *to, const char *text)
{
    word n = length(text);
    memcpy(to, text, n + 1);
    return to + n;
}
