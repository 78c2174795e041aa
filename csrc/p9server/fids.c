#define _GNU_SOURCE
#include "fids.h"
#include "locks.h"
#include "xattrs.h"

#include <pthread.h>
#include <unistd.h>

#define CHAINS (1u << 14)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct p9_fid fids[P9_MOST_FIDS];
static uint32_t chains[CHAINS]; /* index + 1 */
static uint32_t free_ones, begun, most;

void p9_fids_init(uint32_t limit)
{
    most = limit < P9_MOST_FIDS ? limit : P9_MOST_FIDS;
}

static uint32_t *chain_of(uint32_t number)
{
    return &chains[number * 2654435761u >> 18];
}

/* Where the fid of that number is linked; it holds 0 where there is none. */
static uint32_t *find(uint32_t number)
{
    uint32_t *link = chain_of(number);
    while (*link && fids[*link - 1].number != number)
        link = &fids[*link - 1].next;
    return link;
}

struct p9_fid *p9_fid_get(uint32_t number)
{
    pthread_mutex_lock(&lock);
    uint32_t found = *find(number);
    struct p9_fid *fid = found ? &fids[found - 1] : NULL;
    if (fid)
        fid->uses++;
    pthread_mutex_unlock(&lock);
    return fid;
}

static void free_fid(struct p9_fid *fid)
{
    if (fid->locked)
        p9_locks_of_fid_end(fid);
    if (fid->xattr)
        p9_xattr_end(fid->xattr);
    if (fid->open >= 0)
        close(fid->open);
    if (fid->fd >= 0 && fid->fd != fid->open)
        close(fid->fd);
}

void p9_fid_put(struct p9_fid *fid)
{
    if (!fid)
        return;
    pthread_mutex_lock(&lock);
    bool last = --fid->uses == 0;
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    free_fid(fid); /* closing may wait for a disk: without the lock */
    pthread_mutex_lock(&lock);
    fid->next = free_ones;
    free_ones = fid - fids + 1;
    pthread_mutex_unlock(&lock);
}

struct p9_fid *p9_fid_new(void)
{
    struct p9_fid *fid = NULL;
    pthread_mutex_lock(&lock);
    if (free_ones) {
        fid = &fids[free_ones - 1];
        free_ones = fid->next;
    } else if (begun < most) {
        fid = &fids[begun++];
    }
    pthread_mutex_unlock(&lock);
    if (fid)
        *fid = (struct p9_fid){.uses = 1, .number = P9_NO_FID, .fd = -1, .open = -1};
    return fid;
}

/* Under the lock. */
static bool unlink_fid(struct p9_fid *fid)
{
    uint32_t *link = find(fid->number);
    if (!*link || &fids[*link - 1] != fid)
        return false;
    *link = fid->next;
    return true;
}

bool p9_fid_publish(struct p9_fid *fid, uint32_t number, struct p9_fid *replaces)
{
    bool done = false, unlinked = false;
    pthread_mutex_lock(&lock);
    uint32_t found = *find(number);
    if (number != P9_NO_FID && (!found || &fids[found - 1] == replaces)) {
        unlinked = found && unlink_fid(replaces);
        fid->number = number;
        fid->next = *chain_of(number);
        *chain_of(number) = fid - fids + 1;
        fid->uses++;
        done = true;
    }
    pthread_mutex_unlock(&lock);
    if (unlinked)
        p9_fid_put(replaces);
    return done;
}

bool p9_fid_set_open(struct p9_fid *fid, int open, int flags)
{
    pthread_mutex_lock(&lock);
    bool first = fid->open < 0 && !fid->xattr;
    if (first) {
        fid->flags = flags;
        fid->open = open;
    }
    pthread_mutex_unlock(&lock);
    return first;
}

bool p9_fid_set_xattr(struct p9_fid *fid, struct p9_xattr *xattr)
{
    pthread_mutex_lock(&lock);
    bool first = fid->open < 0 && !fid->xattr;
    if (first)
        fid->xattr = xattr;
    pthread_mutex_unlock(&lock);
    return first;
}

bool p9_fid_forget(struct p9_fid *fid)
{
    pthread_mutex_lock(&lock);
    bool known = unlink_fid(fid);
    pthread_mutex_unlock(&lock);
    if (known)
        p9_fid_put(fid);
    return known;
}

void p9_fids_forget_all(void)
{
    for (unsigned i = 0; i < CHAINS; i++) {
        for (;;) {
            pthread_mutex_lock(&lock);
            struct p9_fid *fid = chains[i] ? &fids[chains[i] - 1] : NULL;
            if (fid)
                chains[i] = fid->next;
            pthread_mutex_unlock(&lock);
            if (!fid)
                break;
            p9_fid_put(fid);
        }
    }
}
