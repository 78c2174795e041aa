/* Who a command runs as, by /etc/passwd and /etc/group. */
#pragma once

#include "text.h"

#include <linux/fcntl.h>

#define MOST_GROUPS 256

struct user {
    int is_listed; /* in /etc/passwd */
    unsigned uid, gid, n_groups, groups[MOST_GROUPS];
    char name[64], home[256], shell[256];
};

/* Reads a file line by line, whatever its length; a line that is too long is cut. */
struct lines {
    int fd;
    word at, used;
    char data[4096];
};

static int next_line(struct lines *l, char *to, word size)
{
    word n = 0;
    for (int any = 0;; any = 1) {
        if (l->at == l->used) {
            long got = SYSCALL(read, l->fd, l->data, sizeof l->data, 0, 0);
            l->at = 0;
            l->used = got > 0 ? got : 0;
            if (got <= 0) {
                to[n] = 0;
                return any;
            }
        }
        char c = l->data[l->at++];
        if (c == '\n') {
            to[n] = 0;
            return 1;
        }
        if (n < size - 1)
            to[n++] = c;
    }
}

/* Splits a line at its colons. Returns how many fields there are. */
static int fields_of(char *text, char **fields, int most)
{
    int n = 0;
    fields[n++] = text;
    for (; *text && n < most; text++)
        if (*text == ':') {
            *text = 0;
            fields[n++] = text + 1;
        }
    return n;
}

static int parse_number(const char *text, unsigned *value)
{
    word n = 0;
    if (!*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || (n = n * 10 + (*text - '0')) > 0xfffffffe)
            return 0;
    }
    *value = (unsigned)n;
    return 1;
}

static void copy_text(char *to, const char *from, word size)
{
    word n = length(from);
    n = n < size ? n : size - 1;
    memcpy(to, from, n);
    to[n] = 0;
}

static void find_groups(struct user *u)
{
    static struct lines l;
    static char text[8192];
    char *field[5];
    l = (struct lines){.fd = (int)SYSCALL(open, "/etc/group", O_RDONLY | O_CLOEXEC, 0, 0, 0)};
    while (l.fd >= 0 && u->n_groups < MOST_GROUPS && next_line(&l, text, sizeof text)) {
        unsigned gid;
        if (fields_of(text, field, 5) < 4 || !parse_number(field[2], &gid))
            continue;
        for (char *at = field[3], *next; *at; at = next) {
            for (next = at; *next && *next != ','; next++)
                ;
            if (*next)
                *next++ = 0;
            if (same(at, u->name) && u->n_groups < MOST_GROUPS)
                u->groups[u->n_groups++] = gid;
        }
    }
    if (l.fd >= 0)
        SYSCALL(close, l.fd, 0, 0, 0, 0);
}

/* By name or number, "" for root. 0: there is none. A number need not be in the file. */
static int find_user(const char *name, struct user *u)
{
    static struct lines l;
    static char text[2048];
    char *field[8];
    unsigned uid, wanted = 0;
    int by_number = !*name || parse_number(name, &wanted), found = 0;
    u->uid = u->gid = wanted;
    u->n_groups = 0;
    u->is_listed = 0;
    copy_text(u->name, *name ? name : "root", sizeof u->name);
    copy_text(u->home, wanted ? "/" : "/root", sizeof u->home);
    copy_text(u->shell, "/bin/sh", sizeof u->shell);
    l = (struct lines){.fd = (int)SYSCALL(open, "/etc/passwd", O_RDONLY | O_CLOEXEC, 0, 0, 0)};
    while (l.fd >= 0 && !found && next_line(&l, text, sizeof text)) {
        unsigned gid;
        if (fields_of(text, field, 8) < 7 || !parse_number(field[2], &uid) || !parse_number(field[3], &gid))
            continue;
        if (by_number ? uid != wanted : !same(field[0], name))
            continue;
        found = u->is_listed = 1;
        u->uid = uid;
        u->gid = gid;
        copy_text(u->name, field[0], sizeof u->name);
        copy_text(u->home, field[5], sizeof u->home);
        if (*field[6])
            copy_text(u->shell, field[6], sizeof u->shell);
    }
    if (l.fd >= 0)
        SYSCALL(close, l.fd, 0, 0, 0, 0);
    find_groups(u);
    u->n_groups = u->n_groups < MOST_GROUPS ? u->n_groups : MOST_GROUPS - 1;
    u->groups[u->n_groups++] = u->gid;
    return found || by_number || same(name, "root");
}
