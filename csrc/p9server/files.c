/* Open files: what is in them. */
#define _GNU_SOURCE
#include "tree.h"
#include "xattrs.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define SET_IDS (S_ISUID | S_ISGID)
/* Of open(2)'s flags the guest's that mean something here. The others are its own affair (O_DIRECT and O_NOATIME),
 * or are what no open here may be without: it does not wait (for the other end of a FIFO, a lease), follows no
 * link and makes nothing. */
#define GUESTS_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY)
#define ALWAYS (O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define WAITS_FROM (1u << 16) /* bytes to write that are worth another thread */

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

/* A FIFO and a socket are the guest's own by their names here; a device is nobody's. */
static int may_open(mode_t kind, int flags)
{
    if (S_ISLNK(kind))
        return ELOOP;
    if (!S_ISREG(kind) && !S_ISDIR(kind))
        return ENXIO;
    if (writes(flags) && S_ISDIR(kind))
        return EISDIR;
    return p9_config.read_only && (writes(flags) || flags & O_APPEND) ? EROFS : 0;
}

static int answer_with(struct p9_request *r, int fd)
{
    struct statx about;
    int error = p9_statx(fd, P9_QID_MASK, &about);
    p9_put_qid(&r->out, p9_qid(&about));
    p9_put32(&r->out, 0); /* iounit: what a message has room for */
    return error;
}

/* fid[4] flags[4]: qid[13] iounit[4] */
int p9_lopen(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    int flags = p9_get32(&r->in) & GUESTS_FLAGS;
    if (r->in.bad || !fid || fid->xattr)
        return r->in.bad ? EINVAL : EBADF;
    int error = may_open(fid->kind, flags);
    if (error)
        return error;
    if (fid->open >= 0)
        return EINVAL;
    int open = fid->mount_point ? p9_open_again(p9_config.folder, O_RDONLY | O_DIRECTORY)
                                : p9_open_again(fid->fd, flags | ALWAYS);
    if (open < 0)
        return -open;
    error = answer_with(r, open);
    if (!error && p9_fid_set_open(fid, open, flags))
        return 0;
    close(open);
    return error ? error : EINVAL;
}

/* A file that was there already, under a name that was to be made. */
static int open_old(int folder, const char *name, int flags)
{
    struct statx about;
    int fd = p9_look_up(folder, name, &about);
    if (fd < 0)
        return fd;
    int error = may_open(about.stx_mode, flags);
    int open = error ? -error : p9_open_again(fd, flags | ALWAYS);
    close(fd);
    return open;
}

/* fid[4] name[s] flags[4] mode[4] gid[4]: qid[13] iounit[4]. The fid is the folder, and then the file. */
int p9_lcreate(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    int error = p9_get_name(&r->in, name);
    uint32_t asked = p9_get32(&r->in);
    mode_t mode = p9_get32(&r->in);
    uint32_t gid = p9_get32(&r->in);
    int flags = asked & GUESTS_FLAGS & ~O_DIRECTORY;
    if (error || r->in.bad || !fid)
        return error ? error : r->in.bad ? EINVAL : EBADF;
    if (mode & SET_IDS)
        return EPERM;
    int folder = p9_folder_of(fid);
    if (folder < 0 || fid->open >= 0)
        return folder < 0 ? -folder : EINVAL;
    struct p9_fid *file P9_USES = p9_fid_new();
    if (!file)
        return ENFILE;
    p9_make_as(fid, gid);
    int open = openat(folder, name, (flags & ~O_TRUNC) | ALWAYS | O_NOFOLLOW | O_CREAT | O_EXCL, mode & 01777);
    open = open < 0 ? -errno : open;
    p9_make_as_self();
    if (open == -EEXIST && !(asked & O_EXCL))
        open = open_old(folder, name, flags);
    if (open < 0)
        return -open;
    file->fd = file->open = open;
    file->flags = flags;
    file->kind = S_IFREG;
    file->user = fid->user;
    error = answer_with(r, open);
    return error ? error : p9_fid_publish(file, fid->number, fid) ? 0 : EINVAL;
}

/* At most so many bytes at `to`. What is in memory is read at once; what is not, while others are answered. */
static ssize_t read_file(struct p9_request *r, int fd, uint8_t *to, uint32_t count, uint64_t offset)
{
    uint32_t done = 0;
    while (done < count) {
        struct iovec iov = {to + done, count - done};
        ssize_t n = preadv2(fd, &iov, 1, offset + done, RWF_NOWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EOPNOTSUPP)) {
            p9_may_wait(r);
            n = pread(fd, to + done, count - done, offset + done);
        }
        if (n < 0)
            return done ? (ssize_t)done : n;
        if (n == 0)
            break;
        done += n;
    }
    return done;
}

/* fid[4] offset[8] count[4]: count[4] data[count] */
int p9_read(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint64_t offset = p9_get64(&r->in);
    uint32_t count = p9_get32(&r->in);
    uint8_t *size_at = r->out.at;
    p9_put32(&r->out, 0);
    if (r->in.bad || !fid)
        return r->in.bad ? EINVAL : EBADF;
    size_t room = r->out.end - r->out.at;
    count = count < room ? count : room;
    ssize_t n;
    if (fid->xattr)
        n = p9_xattr_read(fid, r->out.at, count, offset);
    else if (S_ISDIR(fid->kind))
        return EISDIR;
    else if (fid->open < 0 || (fid->flags & O_ACCMODE) == O_WRONLY)
        return EBADF;
    else
        n = read_file(r, fid->open, r->out.at, count, offset);
    if (n < 0)
        return errno;
    struct p9_answer size = {.at = size_at, .end = r->out.at};
    p9_put32(&size, n);
    r->out.at += n;
    return 0;
}

/* fid[4] offset[8] count[4] data[count]: count[4] */
int p9_write(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint64_t offset = p9_get64(&r->in);
    uint32_t count = p9_get32(&r->in);
    const uint8_t *data = p9_get_bytes(&r->in, count);
    if (r->in.bad || !fid)
        return r->in.bad ? EINVAL : EBADF;
    ssize_t n;
    if (fid->xattr) {
        n = p9_xattr_write(fid, data, count, offset);
    } else if (fid->open < 0 || (fid->flags & O_ACCMODE) == O_RDONLY || S_ISDIR(fid->kind)) {
        return EBADF;
    } else {
        if (count >= WAITS_FROM || fid->flags & (O_DSYNC | O_SYNC))
            p9_may_wait(r);
        n = pwrite(fid->open, data, count, offset);
    }
    if (n < 0)
        return errno;
    p9_put32(&r->out, n);
    return 0;
}

/* fid[4] datasync[4] */
int p9_fsync(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    bool data_only = r->in.at < r->in.end && p9_get32(&r->in);
    if (r->in.bad || !fid || fid->open < 0)
        return r->in.bad ? EINVAL : EBADF;
    if (fid->mount_point)
        return 0;
    p9_may_wait(r);
    return (data_only ? fdatasync(fid->open) : fsync(fid->open)) < 0 ? errno : 0;
}
