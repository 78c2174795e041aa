/* What changes folders: names made, moved and taken away. And what a symbolic link says. */
#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SET_IDS (S_ISUID | S_ISGID)

/* The qid of what has just been made there, as answer. */
static int answer_with(struct p9_request *r, int folder, const char *name)
{
    struct statx about;
    if (statx(folder, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, P9_QID_MASK, &about) < 0)
        return errno;
    p9_put_qid(&r->out, p9_qid(&about));
    return 0;
}

/* Before a name is made in the folder `fid`, for the group `gid`: 0, or what is wrong with the request; `error` is
 * what was found already. made() comes after 0. */
static int begin(const struct p9_request *r, const struct p9_fid *fid, int error, uint32_t gid, int *folder)
{
    if (error || r->in.bad || !fid)
        return error ? error : r->in.bad ? EINVAL : EBADF;
    *folder = p9_folder_of(fid);
    if (*folder < 0)
        return -*folder;
    p9_make_as(fid, gid);
    return 0;
}

/* `result` is that of the system call that made the name, and errno is its. */
static int made(struct p9_request *r, int result, int folder, const char *name)
{
    int error = result < 0 ? errno : 0;
    p9_make_as_self();
    return error ? error : answer_with(r, folder, name);
}

/* dfid[4] name[s] mode[4] gid[4]: qid[13]. Linux passes the set-gid bit of the folder around it on, as the host's
 * kernel does by itself. */
int p9_mkdir(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    int error = p9_get_name(&r->in, name);
    mode_t mode = p9_get32(&r->in) & 01777;
    uint32_t gid = p9_get32(&r->in);
    int folder;
    error = begin(r, fid, error, gid, &folder);
    return error ? error : made(r, mkdirat(folder, name, mode), folder, name);
}

/* dfid[4] name[s] mode[4] major[4] minor[4] gid[4]: qid[13]. What has no other meaning on the host than in the
 * guest: a FIFO, a socket's name, a file; no device. */
int p9_mknod(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    int error = p9_get_name(&r->in, name);
    mode_t mode = p9_get32(&r->in);
    p9_get64(&r->in); /* the device's numbers */
    uint32_t gid = p9_get32(&r->in);
    bool harmless = S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISREG(mode) || !(mode & S_IFMT);
    if (!error && (!harmless || mode & SET_IDS))
        error = EPERM;
    int folder;
    error = begin(r, fid, error, gid, &folder);
    return error ? error : made(r, mknodat(folder, name, mode & (S_IFMT | 01777), 0), folder, name);
}

/* dfid[4] name[s] target[s] gid[4]: qid[13]. It may say anything: here no link is followed. */
int p9_symlink(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE], target[P9_PATH_SIZE];
    int error = p9_get_name(&r->in, name);
    p9_get_string(&r->in, target, sizeof target);
    uint32_t gid = p9_get32(&r->in);
    int folder;
    error = begin(r, fid, error, gid, &folder);
    return error ? error : made(r, symlinkat(target, folder, name), folder, name);
}

/* dfid[4] fid[4] name[s] */
int p9_link(struct p9_request *r)
{
    struct p9_fid *into P9_USES = p9_fid_get(p9_get32(&r->in));
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    int error = p9_get_name(&r->in, name);
    if (error || !into || !fid || fid->xattr)
        return error ? error : EBADF;
    int folder = p9_folder_of(into);
    if (folder < 0)
        return -folder;
    if (S_ISDIR(fid->kind))
        return EPERM;
    return linkat(AT_FDCWD, p9_fd_path(fid->fd).text, folder, name, AT_SYMLINK_FOLLOW) < 0 ? errno : 0;
}

/* olddirfid[4] oldname[s] newdirfid[4] newname[s] */
int p9_renameat(struct p9_request *r)
{
    char name[P9_NAME_SIZE], new_name[P9_NAME_SIZE];
    struct p9_fid *from P9_USES = p9_fid_get(p9_get32(&r->in));
    int error = p9_get_name(&r->in, name);
    struct p9_fid *to P9_USES = p9_fid_get(p9_get32(&r->in));
    int other = p9_get_name(&r->in, new_name);
    if (error || other || !from || !to)
        return error ? error : other ? other : EBADF;
    int folder = p9_folder_of(from), new_folder = p9_folder_of(to);
    if (folder < 0 || new_folder < 0)
        return folder < 0 ? -folder : -new_folder;
    return renameat(folder, name, new_folder, new_name) < 0 ? errno : 0;
}

/* dirfid[4] name[s] flags[4] */
int p9_unlinkat(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char name[P9_NAME_SIZE];
    int error = p9_get_name(&r->in, name);
    uint32_t flags = p9_get32(&r->in);
    if (error || r->in.bad || flags & ~(uint32_t)AT_REMOVEDIR)
        return error ? error : EINVAL;
    int folder = fid ? p9_folder_of(fid) : -EBADF;
    if (folder < 0)
        return -folder;
    return unlinkat(folder, name, flags) < 0 ? errno : 0;
}

/* fid[4]: target[s] */
int p9_readlink(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    char target[P9_PATH_SIZE];
    if (!fid || fid->xattr)
        return EBADF;
    if (!S_ISLNK(fid->kind))
        return EINVAL;
    ssize_t n = readlinkat(fid->fd, "", target, sizeof target - 1);
    if (n < 0)
        return errno;
    p9_put16(&r->out, n);
    p9_put_bytes(&r->out, target, n);
    return 0;
}
