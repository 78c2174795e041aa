#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534u

struct p9_fd_path p9_fd_path(int fd)
{
    struct p9_fd_path path;
    char digits[12], *at = digits + sizeof digits - 1;
    *at = 0;
    do
        *--at = '0' + fd % 10;
    while ((fd /= 10));
    memcpy(path.text, at, digits + sizeof digits - at);
    return path;
}

int p9_get_name(struct p9_question *q, char name[P9_NAME_SIZE])
{
    struct p9_question before = *q;
    uint16_t n = p9_get16(&before);
    if (!before.bad && n >= P9_NAME_SIZE) {
        q->at = before.at;
        p9_get_bytes(q, n);
        return ENAMETOOLONG;
    }
    p9_get_string(q, name, P9_NAME_SIZE);
    bool other = strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..");
    return q->bad || other ? EINVAL : 0;
}

int p9_look_up(int folder, const char *name, struct statx *about)
{
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = p9_statx(fd, P9_QID_MASK, about);
    if (!error && about->stx_mnt_id != p9_config.mount)
        error = EXDEV;
    if (!error)
        return fd;
    close(fd);
    return -error;
}

int p9_open_again(int fd, int flags)
{
    int again = openat(AT_FDCWD, p9_fd_path(fd).text, flags | O_CLOEXEC);
    return again < 0 ? -errno : again;
}

int p9_folder_of(const struct p9_fid *fid)
{
    if (fid->mount_point)
        return -EXDEV;
    return S_ISDIR(fid->kind) && !fid->xattr ? fid->fd : -ENOTDIR;
}

int p9_statx(int fd, unsigned mask, struct statx *about)
{
    return statx(fd, "", AT_EMPTY_PATH, mask, about) < 0 ? errno : 0;
}

struct p9_qid p9_qid(const struct statx *about)
{
    /* Numbers of inodes are used again; then the file's birth tells it from the one before. */
    uint32_t birth = (uint32_t)about->stx_btime.tv_sec * 1000003u ^ about->stx_btime.tv_nsec;
    return (struct p9_qid){.type = p9_qid_type(about->stx_mode),
                           .version = about->stx_mask & STATX_BTIME ? birth : 0,
                           .path = about->stx_ino};
}

/* The calls of the C library set all threads'. */
void p9_make_as(const struct p9_fid *fid, uint32_t gid)
{
    if (!p9_config.as_root)
        return;
    syscall(SYS_setfsgid, gid);
    syscall(SYS_setfsuid, fid->user == P9_NO_USER ? p9_config.uid : fid->user);
}

void p9_make_as_self(void)
{
    if (!p9_config.as_root)
        return;
    syscall(SYS_setfsuid, p9_config.uid);
    syscall(SYS_setfsgid, p9_config.gid);
}

uint32_t p9_uid_to_guest(uint32_t uid)
{
    return p9_config.as_root ? uid : uid == p9_config.uid ? 0 : NOBODY;
}

uint32_t p9_gid_to_guest(uint32_t gid)
{
    return p9_config.as_root ? gid : gid == p9_config.gid ? 0 : NOBODY;
}

int p9_ids_from_guest(uint32_t *uid, uint32_t *gid)
{
    if (p9_config.as_root)
        return 0;
    if ((*uid && *uid != UINT32_MAX) || (*gid && *gid != UINT32_MAX))
        return EPERM;
    *uid = *uid ? *uid : p9_config.uid;
    *gid = *gid ? *gid : p9_config.gid;
    return 0;
}
