/* The guest's fids: numbers of its own choice for files that it has walked to. */
#ifndef P9_FIDS_H
#define P9_FIDS_H

#include "wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A guest that caches without end (cache=loose) keeps one for each file that it has seen. Each pins an inode of
 * the host's: this many take some 200 MiB of its kernel's memory. */
#define P9_MOST_FIDS (1u << 17)
#define P9_NO_FID UINT32_MAX
#define P9_NO_USER UINT32_MAX

struct p9_xattr;

struct p9_fid {
    uint32_t number;
    uint32_t next;    /* in its chain, or among the free ones: index + 1, 0 for none */
    uint32_t uses;    /* requests that work on it, and one while the guest knows it; under the table's lock */
    uint32_t user;    /* the guest's, who attached; P9_NO_USER: not told */
    int fd;           /* O_PATH, of what was walked to; or the same as `open` where the guest made the file */
    int open;         /* -1: not opened */
    int flags;        /* of open(2) */
    mode_t kind;      /* S_IFMT of the file, which never changes */
    bool mount_point; /* of another file system of the host: an empty folder to the guest */
    bool locked;      /* has taken a lock once */
    uint64_t path;    /* of a mount point's qid */
    uint64_t place;   /* where an open folder is read next, by lseek(2) */
    struct p9_xattr *xattr; /* it stands for an extended attribute, not for a file */
};

/* Room for as many as descriptors, at most P9_MOST_FIDS. */
void p9_fids_init(uint32_t most);

/* The fid of that number, in use until p9_fid_put; NULL: the guest has none such. */
struct p9_fid *p9_fid_get(uint32_t number);
void p9_fid_put(struct p9_fid *fid);

/* One that the guest does not know yet, in use; without files. NULL: there are as many as may be. */
struct p9_fid *p9_fid_new(void);

/* Makes it known by that number, instead of `replaces` (NULL for none). The caller goes on using it. False: the
 * number stands for another. */
bool p9_fid_publish(struct p9_fid *fid, uint32_t number, struct p9_fid *replaces);

/* Sets what Topen gave; false: it is open already. */
bool p9_fid_set_open(struct p9_fid *fid, int open, int flags);

/* Turns it into an attribute's; false: it is open, or one already. */
bool p9_fid_set_xattr(struct p9_fid *fid, struct p9_xattr *xattr);

/* The guest knows it no more. False: it did not. */
bool p9_fid_forget(struct p9_fid *fid);

/* The guest knows none any more. */
void p9_fids_forget_all(void);

#endif
