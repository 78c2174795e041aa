/* What keeps a server that a guest has taken over to its folder. Each layer is tried by itself: a host may lack
 * any.
 *
 * In this order: namespaces of its own, where the folder is the root (namespaces.c); Landlock, the folder alone
 * (landlock.c); no capabilities but those that root's server works by (capabilities.c); limits; a filter of system
 * calls (filter.c), when the threads have been made. */
#ifndef P9_JAIL_H
#define P9_JAIL_H

#include <stdbool.h>

struct p9_jail {
    bool read_only;
    bool as_root;
    /* What there is of it, for `corral doctor`. */
    bool user_namespace, namespaces, own_root;
    int landlock; /* its ABI; 0: none */
    bool filter;
};

/* Forks into new namespaces: returns in the child, and the parent waits for it and ends as it does. Without, in
 * the same process. */
void p9_enter_namespaces(struct p9_jail *jail, int folder);

/* The folder of a descriptor as one below which nothing else is mounted from outside, and as this process's root;
 * the working folder is then this process's /proc/self/fd. Returns a new descriptor of the folder (O_PATH). */
int p9_enter_folder(struct p9_jail *jail, int folder);

void p9_landlock(struct p9_jail *jail, int folder);
void p9_drop_capabilities(const struct p9_jail *jail);
void p9_limit(void);
void p9_filter(struct p9_jail *jail);

#endif
