#define _GNU_SOURCE
#include "xattrs.h"
#include "tree.h"

#include <errno.h>
#include <pthread.h>
#include <sys/xattr.h>

#define MOST 64       /* at a time: a program that reads or sets one has one */
#define LONGEST 65536 /* Linux's XATTR_SIZE_MAX */

struct p9_xattr {
    bool taken;
    bool to_set;
    char name[P9_NAME_SIZE];
    int flags;           /* of setxattr(2) */
    uint32_t size, done; /* of the value; so much of it was written */
    uint8_t value[LONGEST];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all of them */
static struct p9_xattr xattrs[MOST];

static struct p9_xattr *take(void)
{
    struct p9_xattr *found = NULL;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MOST && !found; i++)
        if (!xattrs[i].taken)
            found = &xattrs[i];
    if (found) {
        found->taken = true;
        found->to_set = false;
        found->size = found->done = 0;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void p9_xattr_end(struct p9_xattr *xattr)
{
    pthread_mutex_lock(&lock);
    xattr->taken = false;
    pthread_mutex_unlock(&lock);
}

ssize_t p9_xattr_read(const struct p9_fid *fid, uint8_t *to, uint32_t count, uint64_t offset)
{
    const struct p9_xattr *xattr = fid->xattr;
    if (xattr->to_set) {
        errno = EBADF;
        return -1;
    }
    if (offset >= xattr->size)
        return 0;
    count = count < xattr->size - offset ? count : xattr->size - offset;
    memcpy(to, xattr->value + offset, count);
    return count;
}

/* 0 or an errno. Linux has no other way to say that one is to go than to replace it by nothing. */
static int set(const struct p9_fid *fid, const struct p9_xattr *xattr)
{
    struct p9_fd_path path = p9_fd_path(fid->fd);
    int result = !xattr->size && xattr->flags & XATTR_REPLACE
                     ? removexattr(path.text, xattr->name)
                     : setxattr(path.text, xattr->name, xattr->value, xattr->size, xattr->flags);
    return result < 0 ? errno : 0;
}

ssize_t p9_xattr_write(const struct p9_fid *fid, const uint8_t *data, uint32_t count, uint64_t offset)
{
    struct p9_xattr *xattr = fid->xattr;
    int error = 0;
    pthread_mutex_lock(&lock);
    if (!xattr->to_set)
        error = EBADF;
    else if (offset != xattr->done || count > xattr->size - xattr->done)
        error = ENOSPC;
    else if (count) {
        memcpy(xattr->value + offset, data, count);
        xattr->done += count;
        error = xattr->done == xattr->size ? set(fid, xattr) : 0;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return error ? -1 : (ssize_t)count;
}

/* Its name, or "" for the names of all there are. */
static int get_name(struct p9_question *q, char name[P9_NAME_SIZE])
{
    struct p9_question before = *q;
    if (p9_get16(q) == 0 && !q->bad) {
        name[0] = 0;
        return 0;
    }
    *q = before;
    p9_get_string(q, name, P9_NAME_SIZE);
    return q->bad ? EINVAL : 0;
}

/* fid[4] newfid[4] name[s]: size[8]. Then the value, or the names, are read from newfid. */
int p9_xattrwalk(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint32_t number = p9_get32(&r->in);
    char name[P9_NAME_SIZE];
    int error = get_name(&r->in, name);
    if (error || !fid || fid->xattr)
        return error ? error : EBADF;
    if (fid->mount_point)
        return EOPNOTSUPP;
    struct p9_fid *new P9_USES = p9_fid_new();
    if (!new || !(new->xattr = take()))
        return ENFILE;
    struct p9_fd_path path = p9_fd_path(fid->fd);
    struct p9_xattr *xattr = new->xattr;
    ssize_t n = name[0] ? getxattr(path.text, name, xattr->value, LONGEST)
                        : listxattr(path.text, (char *)xattr->value, LONGEST);
    if (n < 0)
        return errno;
    xattr->size = n;
    p9_put64(&r->out, n);
    return p9_fid_publish(new, number, NULL) ? 0 : EINVAL;
}

/* fid[4] name[s] attr_size[8] flags[4]. The fid becomes the attribute's, which is set when all of its value has
 * been written: Linux does not hear of what goes wrong later. What decides on rights of the host's users is not
 * the guest's to set: capabilities are such an attribute, and as good as a set-uid bit. */
int p9_xattrcreate(struct p9_request *r)
{
    static const char *const refused[] = {"security.", "trusted."};
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    p9_get_string(&r->in, name, sizeof name);
    uint64_t size = p9_get64(&r->in);
    uint32_t flags = p9_get32(&r->in);
    if (r->in.bad || !fid || fid->xattr)
        return r->in.bad ? EINVAL : EBADF;
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strncmp(name, refused[i], strlen(refused[i])))
            return EPERM;
    if (size > LONGEST || flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return size > LONGEST ? E2BIG : EINVAL;
    if (fid->mount_point)
        return EXDEV;
    struct p9_xattr *xattr = take();
    if (!xattr)
        return ENFILE;
    xattr->to_set = true;
    xattr->size = size;
    xattr->flags = flags;
    memcpy(xattr->name, name, sizeof name);
    int error = size ? 0 : set(fid, xattr);
    if (!error && p9_fid_set_xattr(fid, xattr))
        return 0;
    p9_xattr_end(xattr);
    return error ? error : EINVAL;
}
