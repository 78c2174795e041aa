/* The 9P server of a shared folder, as a process of its own.
 *
 *   _corral_folder_server ro|rw     serves the folder of descriptor 4 over the socket of descriptor 3
 *   _corral_folder_server jail      tells what its jail is made of on this host
 *
 * It ends when the socket does. What keeps it from serving is one line on standard error. */
#define _GNU_SOURCE
#include "jail.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct p9_jail jail;

_Noreturn void p9_give_up(const char *what, int error)
{
    char line[256];
    int n = snprintf(line, sizeof line, "%s%s%s\n", what, error ? ": " : "", error ? strerrordesc_np(error) : "");
    if (write(STDERR_FILENO, line, n) < 0)
        _exit(EXIT_FAILURE);
    _exit(EXIT_FAILURE);
}

static void close_door(void)
{
    p9_filter(&jail);
}

static void tell_jail(void)
{
    char text[256];
    close_door();
    int n = snprintf(text, sizeof text, "user-namespace %d\nnamespaces %d\nown-root %d\nlandlock %d\nfilter %d\n",
                     jail.user_namespace, jail.namespaces, jail.own_root, jail.landlock, jail.filter);
    if (write(STDOUT_FILENO, text, n) < 0)
        _exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    struct statx about;
    const char *word = argc == 2 ? argv[1] : "";
    bool only_tell = !strcmp(word, "jail");
    jail.read_only = strcmp(word, "rw") != 0;
    jail.as_root = geteuid() == 0;
    if (!only_tell && strcmp(word, "ro") != 0 && strcmp(word, "rw") != 0)
        p9_give_up("usage: _corral_folder_server ro|rw|jail", 0);
    close_range(P9_FOLDER + 1, ~0u, 0);
    umask(0);
    int folder = only_tell ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : P9_FOLDER;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        p9_give_up("it cannot give up new privileges", errno);
    p9_enter_namespaces(&jail, folder);
    folder = p9_enter_folder(&jail, folder);
    p9_landlock(&jail, folder);
    p9_drop_capabilities(&jail);
    prctl(PR_SET_DUMPABLE, 0);
    p9_limit();
    if (statx(folder, "", AT_EMPTY_PATH, STATX_MNT_ID, &about) < 0 || !(about.stx_mask & STATX_MNT_ID))
        p9_give_up("it needs Linux 5.8 or newer", 0);
    p9_config = (struct p9_config){.folder = folder,
                                   .mount = about.stx_mnt_id,
                                   .read_only = jail.read_only,
                                   .as_root = jail.as_root,
                                   .uid = geteuid(),
                                   .gid = getegid()};
    if (!only_tell)
        p9_serve(P9_SOCKET, close_door);
    tell_jail();
    return EXIT_SUCCESS;
}
