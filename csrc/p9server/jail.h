/* What keeps a server that a guest has taken over to its folder. Each layer is tried by itself: a host may lack
 * any.
 *
 * In this order: namespaces of its own, where the folder is the root (namespaces.c); Landlock, the folder alone
 * (landlock.c); no capabilities but those that root's server works by (capabilities.c); limits; a filter of system
 * calls (filter.c), when the threads have been made. */
#ifndef P9_JAIL_H
#define P9_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#define P9_SOCKET 3 /* the descriptors that it is started with (backends/folder_server.py) */
#define P9_FOLDER 4

struct p9_jail {
    bool read_only;
    bool as_root;
    /* What there is of it, for `corral doctor`. */
    bool user_namespace, namespaces, own_root;
    int landlock; /* its ABI; 0: none */
    bool filter;
};

/* Forks, into new namespaces where that can be had: returns in the child, and the parent watches over it
 * (warden.c). Where no process can be had, in the same. */
void p9_enter_namespaces(struct p9_jail *jail, int folder);

/* Waits for the child, and ends as it does; ends it when the socket has ended and it does not. */
_Noreturn void p9_watch_over(pid_t child);

/* The folder of a descriptor as one below which nothing else is mounted from outside, and as this process's root;
 * the working folder is then this process's /proc/self/fd. Returns a new descriptor of the folder (O_PATH). */
int p9_enter_folder(struct p9_jail *jail, int folder);

void p9_landlock(struct p9_jail *jail, int folder);
void p9_drop_capabilities(const struct p9_jail *jail);
void p9_limit(void);
void p9_filter(struct p9_jail *jail);

#endif
