/* What is known of a file, and set: its mode, owner, size and times. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SET_IDS (S_ISUID | S_ISGID)

/* Of Tgetattr: mode, nlink, uid, gid, rdev, atime, mtime, ctime, ino, size, blocks; btime; gen. */
#define BASIC 0x7ffull
#define BIRTH 0x800ull
#define GENERATION 0x1000ull

enum { /* of Tsetattr's valid */
       MODE = 1,
       UID = 2,
       GID = 4,
       SIZE = 8,
       ATIME = 0x10,
       MTIME = 0x20,
       CTIME = 0x40,
       ATIME_SET = 0x80, /* to what the message says; without, to now */
       MTIME_SET = 0x100
};

static void put_time(struct p9_answer *a, struct statx_timestamp time)
{
    p9_put64(a, time.tv_sec);
    p9_put64(a, time.tv_nsec);
}

/* fid[4] request_mask[8]: valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8] blocks[8]
 * atime[16] mtime[16] ctime[16] btime[16] gen[8] data_version[8] */
int p9_getattr(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint64_t mask = p9_get64(&r->in);
    struct statx about;
    if (r->in.bad || !fid || fid->xattr)
        return r->in.bad ? EINVAL : EBADF;
    int error = p9_statx(fid->fd, STATX_BASIC_STATS | STATX_BTIME, &about);
    if (error)
        return error;
    struct p9_qid qid = p9_qid(&about);
    if (fid->mount_point) {
        qid = (struct p9_qid){.type = p9_qid_type(S_IFDIR), .path = fid->path};
        about.stx_mode = S_IFDIR | 0555;
        about.stx_nlink = 2;
    }
    p9_put64(&r->out, mask & (BASIC | (about.stx_mask & STATX_BTIME ? BIRTH | GENERATION : 0)));
    p9_put_qid(&r->out, qid);
    p9_put32(&r->out, about.stx_mode);
    p9_put32(&r->out, p9_uid_to_guest(about.stx_uid));
    p9_put32(&r->out, p9_gid_to_guest(about.stx_gid));
    p9_put64(&r->out, about.stx_nlink);
    p9_put64(&r->out, makedev(about.stx_rdev_major, about.stx_rdev_minor));
    p9_put64(&r->out, about.stx_size);
    p9_put64(&r->out, about.stx_blksize);
    p9_put64(&r->out, about.stx_blocks);
    put_time(&r->out, about.stx_atime);
    put_time(&r->out, about.stx_mtime);
    put_time(&r->out, about.stx_ctime);
    put_time(&r->out, about.stx_btime);
    p9_put64(&r->out, qid.version); /* the generation: what tells it from one that had its inode's number before */
    p9_put64(&r->out, 0);
    return 0;
}

static int set_size(const struct p9_fid *fid, uint64_t size)
{
    if (!S_ISREG(fid->kind))
        return S_ISDIR(fid->kind) ? EISDIR : EINVAL;
    /* A file that was opened for writing may be cut, whatever its mode is now. */
    bool opened = fid->open >= 0 && (fid->flags & O_ACCMODE) != O_RDONLY;
    return (opened ? ftruncate(fid->open, size) : truncate(p9_fd_path(fid->fd).text, size)) < 0 ? errno : 0;
}

static struct timespec get_time(struct p9_question *in, uint32_t valid, uint32_t is, uint32_t set)
{
    uint64_t seconds = p9_get64(in), nanoseconds = p9_get64(in);
    if (!(valid & is))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (!(valid & set))
        return (struct timespec){.tv_nsec = UTIME_NOW};
    /* More than a second of them are UTIME_NOW and UTIME_OMIT, or make no sense. */
    return (struct timespec){.tv_sec = seconds, .tv_nsec = nanoseconds < 1000000000 ? (long)nanoseconds : -1};
}

/* fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime[16] mtime[16] */
int p9_setattr(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint32_t valid = p9_get32(&r->in);
    mode_t mode = p9_get32(&r->in) & 07777;
    uint32_t uid = p9_get32(&r->in), gid = p9_get32(&r->in);
    uint64_t size = p9_get64(&r->in);
    struct timespec times[2];
    times[0] = get_time(&r->in, valid, ATIME, ATIME_SET);
    times[1] = get_time(&r->in, valid, MTIME, MTIME_SET);
    uid = valid & UID ? uid : UINT32_MAX;
    gid = valid & GID ? gid : UINT32_MAX;
    if (r->in.bad || !fid || fid->xattr)
        return r->in.bad ? EINVAL : EBADF;
    if (fid->mount_point)
        return EXDEV;
    if (valid & MODE && mode & SET_IDS)
        return EPERM;
    struct p9_fd_path path = p9_fd_path(fid->fd);
    int error = valid & (UID | GID) ? p9_ids_from_guest(&uid, &gid) : 0;
    if (!error && valid & (UID | GID | CTIME))
        error = fchownat(fid->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
    if (!error && valid & MODE)
        error = fchmodat(AT_FDCWD, path.text, mode, 0) < 0 ? errno : 0;
    if (!error && valid & SIZE) {
        p9_may_wait(r);
        error = set_size(fid, size);
    }
    if (!error && valid & (ATIME | MTIME))
        error = utimensat(AT_FDCWD, path.text, times, 0) < 0 ? errno : 0;
    return error;
}
