/* What a container's guest is told as its session (src/corral/launch/container.py): texts, each a letter for what
 * it is, its value, and a zero. They come by the channel, when the guest may already be one that goes on. */
#pragma once

#include "../agent/program.h"
#include "../agent/user.h"
#include "session.h"

#include <linux/resource.h>

#define MOST_MOUNTS 64
#define HOSTNAME 'h'
#define ARGUMENT 'a'
#define VARIABLE 'e'
#define WORK_FOLDER 'w'
#define USER 'u'        /* NAME or NAME:GROUP, numbers too */
#define STOP_SIGNAL 's' /* which one asks the command to end, a number */
#define MEMORY 't'      /* OPTIONS:PATH, a tmpfs there */
#define SHARE 'v'       /* TAG:ro:PATH or TAG:rw:PATH, a folder of the host there */
#define READ_ONLY 'r'   /* the image is; "" */
#define KEPT 'k'        /* what is written outlives the guest; "" */

static struct {
    const char *hostname, *folder, *user, *mounts[MOST_MOUNTS];
    char kinds[MOST_MOUNTS];
    int n_mounts, read_only, kept, stop;
} asked = {.hostname = "", .folder = "/", .user = "", .stop = SIGTERM};

/* The texts stay where they are. 0: they make no sense. */
static int read_session(char *text, const char *end)
{
    unsigned number;
    for (char *value; text < end; text = value + length(value) + 1) {
        value = text + 1;
        switch (*text) {
        case ARGUMENT:
            if (!add_word(value))
                return 0;
            break;
        case VARIABLE:
            if (!add_variable(value))
                return 0;
            break;
        case HOSTNAME:
            asked.hostname = value;
            break;
        case WORK_FOLDER:
            asked.folder = value;
            break;
        case USER:
            asked.user = value;
            break;
        case STOP_SIGNAL:
            asked.stop = parse_number(value, &number) ? (int)number : SIGTERM;
            break;
        case READ_ONLY:
            asked.read_only = 1;
            break;
        case KEPT:
            asked.kept = 1;
            break;
        case MEMORY:
        case SHARE:
            if (asked.n_mounts == MOST_MOUNTS)
                return 0;
            asked.kinds[asked.n_mounts] = *text;
            asked.mounts[asked.n_mounts++] = value;
            break;
        default:
            return 0;
        }
    }
    return program.n_words > 0;
}

/* A number, or what /etc/group says of the name. 0: there is none. */
static int find_group(const char *name, unsigned *gid)
{
    static struct lines l;
    static char text[8192];
    char *field[5];
    int found = parse_number(name, gid);
    l = (struct lines){.fd = (int)SYSCALL(open, "/etc/group", O_RDONLY | O_CLOEXEC, 0, 0, 0)};
    while (l.fd >= 0 && !found && next_line(&l, text, sizeof text))
        found = fields_of(text, field, 5) >= 3 && same(field[0], name) && parse_number(field[2], gid);
    if (l.fd >= 0)
        SYSCALL(close, l.fd, 0, 0, 0, 0);
    return found;
}

/* As container engines read USER: a number that no line of /etc/passwd has is in the group 0, and a group that is
 * named is the only one. Returns why not. */
static const char *take_user(struct user *user)
{
    static char name[256], *group;
    copy_text(name, asked.user, sizeof name);
    for (group = name; *group && *group != ':'; group++)
        ;
    if (*group)
        *group++ = 0;
    if (!find_user(name, user))
        return "there is no such user in the image";
    if (!user->is_listed)
        user->gid = user->groups[user->n_groups - 1] = 0;
    if (!*group)
        return 0;
    if (!find_group(group, &user->gid))
        return "there is no such group in the image";
    user->groups[0] = user->gid;
    user->n_groups = 1;
    return 0;
}
