/* Folders read, and what the file system has left. */
#define _GNU_SOURCE
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOCKS 16
#define ENTRIES (1u << 16) /* bytes of getdents64(2) at a time */
#define ALIGNMENT 8        /* of entries */
#define NOWHERE UINT64_MAX
#define ENTRY_HEADER 24 /* qid[13] offset[8] type[1] and the name's n[2] */

struct entry {
    uint64_t ino;
    uint64_t next; /* where the entry behind it is to be had, by lseek(2) */
    uint16_t size;
    uint8_t type;
    char name[];
};

/* An open folder has one place where it is read; two requests may name it at once. */
static pthread_mutex_t locks[LOCKS] = {[0 ... LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};

static bool put_entry(struct p9_answer *out, const struct entry *entry)
{
    size_t n = strlen(entry->name);
    if ((size_t)(out->end - out->at) < ENTRY_HEADER + n)
        return false;
    uint8_t kind = entry->type == DT_DIR ? p9_qid_type(S_IFDIR) : entry->type == DT_LNK ? p9_qid_type(S_IFLNK) : 0;
    p9_put_qid(out, (struct p9_qid){.type = kind, .path = entry->ino});
    p9_put64(out, entry->next);
    p9_put8(out, entry->type);
    p9_put_string(out, entry->name);
    return true;
}

/* A call's worth of entries from where the descriptor is, in `most` bytes of the host's form. 0 or an errno;
 * EINVAL: not even one had room. `place` becomes where it is then. */
static int read_some(int fd, size_t most, struct p9_answer *out, uint64_t *place)
{
    _Alignas(struct entry) char entries[ENTRIES];
    long n = syscall(SYS_getdents64, fd, entries, most < sizeof entries ? most : sizeof entries);
    if (n < 0)
        return errno;
    for (long at = 0; at < n;) {
        const struct entry *entry = (const struct entry *)(entries + at);
        if (!put_entry(out, entry)) {
            *place = NOWHERE;
            return at ? 0 : EINVAL;
        }
        *place = entry->next;
        at += entry->size;
    }
    return 0;
}

/* The entries from `offset` on, some of those that there is room for; none: there are no more. */
static int read_entries(struct p9_fid *fid, uint64_t offset, struct p9_answer *out)
{
    size_t room = out->end - out->at;
    /* To go to where it is costs some file systems a search. */
    if (offset != fid->place && lseek(fid->open, offset, SEEK_SET) < 0)
        return errno;
    fid->place = offset;
    /* An entry of 24 bytes, the shortest, has 28 in the answer, longer ones less than that: all fit. */
    int error = read_some(fid->open, room / 7 * 6, out, &fid->place);
    return error == EINVAL ? read_some(fid->open, room + ALIGNMENT, out, &fid->place) : error;
}

/* Of a mount point: itself and the folder around it. */
static int read_nothing(const struct p9_fid *fid, uint64_t offset, struct p9_answer *out)
{
    static const char *const names[] = {".", ".."};
    for (uint64_t i = offset; i < 2; i++) {
        if ((size_t)(out->end - out->at) < ENTRY_HEADER + strlen(names[i]))
            return i > offset ? 0 : EINVAL;
        p9_put_qid(out, (struct p9_qid){.type = p9_qid_type(S_IFDIR), .path = fid->path});
        p9_put64(out, i + 1);
        p9_put8(out, DT_DIR);
        p9_put_string(out, names[i]);
    }
    return 0;
}

/* fid[4] offset[8] count[4]: count[4] count*(qid[13] offset[8] type[1] name[s]). The offset is 0 or an entry's. */
int p9_readdir(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    uint64_t offset = p9_get64(&r->in);
    uint32_t count = p9_get32(&r->in);
    struct p9_answer size = r->out;
    p9_put32(&r->out, 0);
    if (r->in.bad || !fid || fid->open < 0)
        return r->in.bad ? EINVAL : EBADF;
    if (!S_ISDIR(fid->kind))
        return ENOTDIR;
    struct p9_answer out = r->out;
    if (count < (size_t)(out.end - out.at))
        out.end = out.at + count;
    int error;
    if (fid->mount_point) {
        error = read_nothing(fid, offset, &out);
    } else {
        pthread_mutex_t *lock = &locks[fid->number % LOCKS];
        pthread_mutex_lock(lock);
        error = read_entries(fid, offset, &out);
        pthread_mutex_unlock(lock);
    }
    p9_put32(&size, out.at - r->out.at);
    r->out.at = out.at;
    return error;
}

/* fid[4]: type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4] */
int p9_statfs(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    struct statfs about;
    if (!fid || fid->xattr)
        return EBADF;
    if (fstatfs(fid->fd, &about) < 0)
        return errno;
    p9_put32(&r->out, V9FS_MAGIC);
    p9_put32(&r->out, about.f_bsize);
    p9_put64(&r->out, about.f_blocks);
    p9_put64(&r->out, about.f_bfree);
    p9_put64(&r->out, about.f_bavail);
    p9_put64(&r->out, about.f_files);
    p9_put64(&r->out, about.f_ffree);
    p9_put64(&r->out, 0); /* the host's are nothing to the guest */
    p9_put32(&r->out, about.f_namelen);
    return 0;
}
