/* From names to fids, and the end of fids. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <unistd.h>

#define MOST_NAMES 16
#define MOUNT_POINTS (1ull << 63) /* of their qids' paths: no file system counts its inodes so far */

/* What a fid stands for, while a walk goes on: it is closed, or given to one. */
struct place {
    int fd;
    mode_t kind;
    bool mount_point;
    uint64_t path; /* of a mount point */
};

static int again(const struct p9_fid *fid, struct place *to)
{
    int fd = fid->fd == fid->open ? p9_open_again(fid->fd, O_PATH) : fcntl(fid->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return fid->fd == fid->open ? -fd : errno;
    *to = (struct place){fd, fid->kind, fid->mount_point, fid->path};
    return 0;
}

/* A folder where the host has something mounted: the guest may mount there too, and sees nothing. */
static int step_to_mount(struct place *at, const struct statx *about, struct p9_qid *qid)
{
    if (!S_ISDIR(about->stx_mode))
        return EXDEV;
    at->mount_point = true;
    at->kind = S_IFDIR;
    at->path = MOUNT_POINTS ^ about->stx_ino ^ (uint64_t)about->stx_dev_minor << 48 ^
               (uint64_t)about->stx_dev_major << 56;
    *qid = (struct p9_qid){.type = p9_qid_type(S_IFDIR), .path = at->path};
    return 0;
}

static int step(struct place *at, const char *name, struct p9_qid *qid)
{
    struct statx about;
    if (!S_ISDIR(at->kind))
        return ENOTDIR;
    if (at->mount_point)
        return ENOENT;
    int fd = p9_look_up(at->fd, name, &about);
    if (fd < 0)
        return fd == -EXDEV ? step_to_mount(at, &about, qid) : -fd;
    close(at->fd);
    at->fd = fd;
    at->kind = about.stx_mode & S_IFMT;
    *qid = p9_qid(&about);
    return 0;
}

/* A new fid of that number for it; it is closed where that fails. */
static int publish(struct place *at, uint32_t number, uint32_t user, struct p9_fid *replaces)
{
    struct p9_fid *fid P9_USES = p9_fid_new();
    if (!fid) {
        close(at->fd);
        return ENFILE;
    }
    fid->fd = at->fd;
    fid->kind = at->kind;
    fid->mount_point = at->mount_point;
    fid->path = at->path;
    fid->user = user;
    return p9_fid_publish(fid, number, replaces) ? 0 : EINVAL;
}

/* fid[4] afid[4] uname[s] aname[s] n_uname[4]. There is one tree, whatever its name. */
int p9_attach(struct p9_request *r)
{
    uint32_t number = p9_get32(&r->in), afid = p9_get32(&r->in);
    p9_skip_string(&r->in);
    p9_skip_string(&r->in);
    uint32_t user = p9_get32(&r->in);
    struct statx about;
    if (r->in.bad || afid != P9_NO_FID)
        return EINVAL;
    struct place root = {.fd = fcntl(p9_config.folder, F_DUPFD_CLOEXEC, 0), .kind = S_IFDIR};
    if (root.fd < 0)
        return errno;
    int error = p9_statx(root.fd, P9_QID_MASK, &about);
    if (error) {
        close(root.fd);
        return error;
    }
    p9_put_qid(&r->out, p9_qid(&about));
    return publish(&root, number, user, NULL);
}

/* fid[4] newfid[4] nwname[2] nwname*(wname[s]): nwqid[2] nwqid*(qid[13]). Where not all names are there, the
 * answer has those that are, and newfid stands for nothing. */
int p9_walk(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint32_t number = p9_get32(&r->in);
    uint16_t names = p9_get16(&r->in), found = 0;
    char name[P9_NAME_SIZE];
    struct p9_qid qids[MOST_NAMES];
    struct place at = {.fd = -1};
    if (r->in.bad || names > MOST_NAMES)
        return EINVAL;
    if (!fid || fid->xattr)
        return EBADF;
    int error = again(fid, &at);
    if (error)
        return error;
    while (found < names && !error) {
        error = p9_get_name(&r->in, name);
        /* What no folder can have is not there, unless the message is broken. */
        error = error == EINVAL && !r->in.bad ? ENOENT : error;
        error = error ? error : step(&at, name, &qids[found]);
        found += !error;
    }
    if (found < names) {
        close(at.fd);
        if (!found || r->in.bad)
            return r->in.bad ? EINVAL : error;
    } else {
        error = publish(&at, number, fid->user, number == fid->number ? fid : NULL);
        if (error)
            return error;
    }
    p9_put16(&r->out, found);
    for (unsigned i = 0; i < found; i++)
        p9_put_qid(&r->out, qids[i]);
    return 0;
}

/* fid[4] */
int p9_clunk(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    return fid && p9_fid_forget(fid) ? 0 : EBADF;
}

/* fid[4]. A fid has no name here; Linux falls back on this only where Tunlinkat is unknown. */
int p9_remove(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    if (!fid || !p9_fid_forget(fid))
        return EBADF;
    return EOPNOTSUPP;
}
