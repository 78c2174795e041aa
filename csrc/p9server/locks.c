#define _GNU_SOURCE
#include "locks.h"
#include "tree.h"

#include <errno.h>
#include <pthread.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOST_RANGES 1024
#define MOST_FILES 256

enum { READ = 0, WRITE = 1, NONE = 2 };       /* of Tlock's type */
enum { SUCCESS = 0, BLOCKED = 1, ERROR = 2 }; /* of Rlock's status */

/* Of a process of the guest; `last` is the last byte. */
struct range {
    struct locked_file *file; /* NULL: free */
    const struct p9_fid *fid;
    uint32_t process;
    bool write;
    uint64_t first, last;
};

struct locked_file {
    unsigned ranges; /* 0: free */
    uint64_t device, inode;
    int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range ranges[MOST_RANGES];
static struct locked_file files[MOST_FILES];

static short type_of(int type)
{
    return type == WRITE ? F_WRLCK : type == READ ? F_RDLCK : F_UNLCK;
}

static struct flock as_flock(short type, uint64_t first, uint64_t last)
{
    return (struct flock){.l_type = type,
                          .l_whence = SEEK_SET,
                          .l_start = (off_t)first,
                          .l_len = last == INT64_MAX ? 0 : (off_t)(last - first + 1)};
}

static struct locked_file *find(const struct statx *about)
{
    uint64_t device = makedev(about->stx_dev_major, about->stx_dev_minor);
    for (unsigned i = 0; i < MOST_FILES; i++)
        if (files[i].ranges && files[i].device == device && files[i].inode == about->stx_ino)
            return &files[i];
    return NULL;
}

/* A description of its own: locks end with it, not with the fid's. -errno. */
static int open_for_locks(const struct p9_fid *fid)
{
    int fd = p9_config.read_only ? -EACCES : p9_open_again(fid->fd, O_RDWR | O_NONBLOCK);
    if (fd < 0)
        fd = p9_open_again(fid->fd, O_RDONLY | O_NONBLOCK);
    return fd < 0 && !p9_config.read_only ? p9_open_again(fid->fd, O_WRONLY | O_NONBLOCK) : fd;
}

/* Has the host's lock be, at each byte from first to last, the stronger of `least` and of what the guest's ranges
 * say, those of `process` left out if `but_it`. 0, or an errno when others' locks are in the way. */
static int hold(struct locked_file *file, uint64_t first, uint64_t last, int least, bool but_it, uint32_t process)
{
    for (uint64_t at = first; at <= last;) {
        uint64_t until = last; /* to where it is the same */
        int strongest = least;
        for (unsigned i = 0; i < MOST_RANGES; i++) {
            const struct range *range = &ranges[i];
            if (range->file != file || (but_it && range->process == process) || range->last < at)
                continue;
            if (range->first > at) {
                until = range->first - 1 < until ? range->first - 1 : until;
                continue;
            }
            until = range->last < until ? range->last : until;
            if (strongest != WRITE)
                strongest = range->write ? WRITE : READ;
        }
        struct flock wanted = as_flock(type_of(strongest), at, until);
        if (fcntl(file->fd, F_OFD_SETLK, &wanted) < 0)
            return errno;
        at = until + 1; /* at most 2^63 */
    }
    return 0;
}

static struct range *free_range(void)
{
    for (unsigned i = 0; i < MOST_RANGES; i++)
        if (!ranges[i].file)
            return &ranges[i];
    return NULL;
}

/* Takes first to last out of the process's ranges of the file; needs a free one where it is in the middle of one.
 */
static void carve(struct locked_file *file, uint32_t process, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < MOST_RANGES; i++) {
        struct range *range = &ranges[i];
        if (range->file != file || range->process != process || range->last < first || range->first > last)
            continue;
        bool before = range->first<first, behind = range->last> last;
        if (before && behind) {
            struct range *rest = free_range();
            *rest = *range;
            rest->first = last + 1;
            rest->file->ranges++;
        }
        if (before)
            range->last = first - 1;
        else if (behind)
            range->first = last + 1;
        else {
            range->file = NULL;
            file->ranges--;
        }
    }
}

static void end_if_unused(struct locked_file *file)
{
    if (!file->ranges)
        close(file->fd);
}

static int unlock(struct locked_file *file, uint32_t process, uint64_t first, uint64_t last)
{
    carve(file, process, first, last);
    int error = hold(file, first, last, NONE, false, 0);
    end_if_unused(file);
    return error;
}

static int set(struct p9_fid *fid, struct locked_file *file, int type, uint64_t first, uint64_t last,
               uint32_t process)
{
    int error = hold(file, first, last, type, true, process);
    if (error) {
        hold(file, first, last, NONE, false, 0); /* as it was: it only lets go */
        end_if_unused(file);
        return error;
    }
    carve(file, process, first, last);
    *free_range() = (struct range){
        .file = file, .fid = fid, .process = process, .write = type == WRITE, .first = first, .last = last};
    file->ranges++;
    fid->locked = true;
    return 0;
}

/* Whether as many ranges are free as one request may take. */
static bool has_room(void)
{
    unsigned free = 0;
    for (unsigned i = 0; i < MOST_RANGES && free < 2; i++)
        free += !ranges[i].file;
    return free == 2;
}

static int change(struct p9_fid *fid, int type, uint64_t first, uint64_t last, uint32_t process)
{
    struct statx about;
    int error = p9_statx(fid->fd, STATX_INO, &about);
    if (error)
        return error;
    struct locked_file *file = find(&about);
    if (type == NONE && !file)
        return 0;
    if (!has_room())
        return ENOLCK;
    if (type == NONE)
        return unlock(file, process, first, last);
    for (unsigned i = 0; i < MOST_FILES && !file; i++)
        if (!files[i].ranges)
            file = &files[i];
    if (!file)
        return ENOLCK;
    if (!file->ranges) {
        int fd = open_for_locks(fid);
        if (fd < 0)
            return -fd;
        file->fd = fd;
        file->device = makedev(about.stx_dev_major, about.stx_dev_minor);
        file->inode = about.stx_ino;
    }
    return set(fid, file, type, first, last, process);
}

void p9_locks_of_fid_end(const struct p9_fid *fid)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MOST_RANGES; i++) {
        struct range range = ranges[i];
        if (!range.file || range.fid != fid)
            continue;
        ranges[i].file = NULL;
        range.file->ranges--;
        hold(range.file, range.first, range.last, NONE, false, 0);
        end_if_unused(range.file);
    }
    pthread_mutex_unlock(&lock);
}

struct asked {
    uint8_t type;
    uint64_t first, last;
    uint32_t process;
};

/* start[8] length[8] proc_id[4] client_id[s]; a length of 0 is all that is behind. 0 or an errno. */
static int get_range(struct p9_question *q, struct asked *asked)
{
    asked->first = p9_get64(q);
    uint64_t length = p9_get64(q);
    asked->process = p9_get32(q);
    p9_skip_string(q); /* there is one client */
    if (q->bad || asked->type > NONE || asked->first > INT64_MAX)
        return EINVAL;
    bool to_the_end = !length || length > INT64_MAX - asked->first;
    asked->last = to_the_end ? INT64_MAX : asked->first + length - 1;
    return 0;
}

static int lockable(const struct p9_fid *fid, const struct asked *asked)
{
    if (!fid || fid->xattr || fid->open < 0)
        return EBADF;
    if (!S_ISREG(fid->kind))
        return EINVAL;
    return p9_config.read_only && asked->type == WRITE ? EROFS : 0;
}

/* fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]: status[1]. It does not wait: a guest asks
 * again. */
int p9_lock(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    struct asked asked = {.type = p9_get8(&r->in)};
    p9_get32(&r->in); /* whether it would wait, or claims it back */
    int error = get_range(&r->in, &asked);
    error = error ? error : lockable(fid, &asked);
    if (error)
        return error;
    pthread_mutex_lock(&lock);
    error = change(fid, asked.type, asked.first, asked.last, asked.process);
    pthread_mutex_unlock(&lock);
    if (error && error != EAGAIN && error != EACCES)
        return error;
    p9_put8(&r->out, error ? BLOCKED : SUCCESS);
    return 0;
}

/* fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]: the same, of a lock that is in the way; type 2: none.
 * Of the guest's own its kernel knows better. */
int p9_getlock(struct p9_request *r)
{
    struct p9_fid *fid P9_USES = p9_fid_get(p9_get32(&r->in));
    struct asked asked = {.type = p9_get8(&r->in)};
    int error = get_range(&r->in, &asked);
    error = error ? error : lockable(fid, &asked);
    error = !error && asked.type == NONE ? EINVAL : error;
    if (error)
        return error;
    struct statx about;
    struct flock found = as_flock(type_of(asked.type), asked.first, asked.last);
    pthread_mutex_lock(&lock);
    error = p9_statx(fid->fd, STATX_INO, &about);
    struct locked_file *file = error ? NULL : find(&about);
    if (!error)
        error = fcntl(file ? file->fd : fid->open, F_OFD_GETLK, &found) < 0 ? errno : 0;
    pthread_mutex_unlock(&lock);
    if (error)
        return error;
    p9_put8(&r->out, found.l_type == F_WRLCK ? WRITE : found.l_type == F_RDLCK ? READ : NONE);
    p9_put64(&r->out, found.l_start);
    p9_put64(&r->out, found.l_len);
    p9_put32(&r->out, found.l_type == F_UNLCK ? asked.process : 0); /* the host's processes have no number there */
    p9_put_string(&r->out, "host");
    return 0;
}
