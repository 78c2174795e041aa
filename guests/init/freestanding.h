/* What Corral's inits share: system calls and text, without a C library. */
#pragma once

#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mount.h>

typedef unsigned long word;

static long syscall5(long number, word a, word b, word c, word d, word e)
{
    long result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

#define SYSCALL(name, a, b, c, d, e) syscall5(__NR_##name, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e))

/* The compiler may call these whatever the flags. */
void *memset(void *to, int byte, word size)
{
    for (word i = 0; i < size; i++)
        ((char *)to)[i] = byte;
    return to;
}

void *memcpy(void *to, const void *from, word size)
{
    for (word i = 0; i < size; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

static word length(const char *text)
{
    word n = 0;
    while (text[n])
        n++;
    return n;
}

__attribute__((unused)) static void say(const char *text)
{
    SYSCALL(write, 1, text, length(text), 0, 0);
}

/* Reads a small file as one string without the newline at its end; "" when there is none. */
static const char *read_file(const char *path, char *buffer, word size)
{
    long fd = SYSCALL(open, path, O_RDONLY, 0, 0, 0), used = 0;
    if (fd >= 0) {
        for (long n; (n = SYSCALL(read, fd, buffer + used, size - 1 - used, 0, 0)) > 0;)
            used += n;
        SYSCALL(close, fd, 0, 0, 0, 0);
    }
    while (used && buffer[used - 1] == '\n')
        used--;
    buffer[used] = 0;
    return buffer;
}

/* The value of `name=` in the command line, copied into `value`, at most `size` bytes; 0 when it is not there. */
__attribute__((unused)) static int parameter(const char *line, const char *name, char *value, word size)
{
    word n = length(name);
    for (const char *at = line; *at; at++) {
        if (at != line && at[-1] != ' ')
            continue;
        word i = 0;
        while (i < n && at[i] == name[i])
            i++;
        if (i < n || at[n] != '=')
            continue;
        for (at += n + 1; *at && *at != ' ' && --size; at++)
            *value++ = *at;
        *value = 0;
        return 1;
    }
    return 0;
}

__attribute__((unused)) static void mount(const char *what, const char *where)
{
    SYSCALL(mkdir, where, 0755, 0, 0, 0);
    SYSCALL(mount, what, where, what, 0, 0);
}

/* The kernel enters with the stack aligned to 16 bytes, a function expects it as a call leaves it. */
__asm__(".globl _start\n_start: xor %ebp, %ebp\n call start\n");
