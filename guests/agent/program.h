/* A program that is to be started: its arguments, its environment, and how it is found. */
#pragma once

#include "text.h"

#define WORDS 4096 /* arguments, and as many variables */

static struct {
    const char *words[WORDS + 1], *variables[WORDS + 8];
    int n_words, n_variables;
} program;

/* 0: there are too many. */
static int add_word(const char *text)
{
    if (program.n_words == WORDS)
        return 0;
    program.words[program.n_words++] = text;
    return 1;
}

static int add_variable(const char *text)
{
    if (program.n_variables == WORDS)
        return 0;
    program.variables[program.n_variables++] = text;
    return 1;
}

static const char *variable(const char *name)
{
    for (int i = program.n_variables - 1; i >= 0; i--)
        if (begins(program.variables[i], name) && program.variables[i][length(name)] == '=')
            return program.variables[i] + length(name) + 1;
    return 0;
}

/* `space` holds it. */
static void set_default(char *space, word size, const char *name, const char *value)
{
    if (variable(name) || length(name) + length(value) + 2 > size || program.n_variables >= WORDS + 7)
        return;
    char *at = append_text(space, name);
    *at++ = '=';
    append_text(at, value);
    program.variables[program.n_variables++] = space;
}

static int is_path(const char *name)
{
    while (*name && *name != '/')
        name++;
    return *name;
}

/* As execvp(3) does it. Returns -errno. */
static long execute(void)
{
    static char candidate[4096 + 256];
    const char *name = program.words[0], *path = variable("PATH");
    long error = -2; /* ENOENT */
    if (is_path(name))
        return SYSCALL(execve, name, program.words, program.variables, 0, 0);
    while (path && *path) {
        const char *end = path;
        while (*end && *end != ':')
            end++;
        word n = end - path;
        if (n + length(name) + 2 <= sizeof candidate) {
            memcpy(candidate, path, n);
            candidate[n] = '/';
            append_text(candidate + n + 1, name);
            long result = SYSCALL(execve, candidate, program.words, program.variables, 0, 0);
            error = result == -2 ? error : result;
        }
        path = *end ? end + 1 : end;
    }
    return error;
}
