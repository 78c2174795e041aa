#define _GNU_SOURCE
#include "ram_save.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE CORRAL_RAM_PAGE
#define PAGES_AT_ONCE 512u
#define NICE 10
#define RUN_MAX (1u << 20) /* bytes of one write: what a stop waits for */
#define FILES_MAX 64u

/* Of an entry of /proc/PID/pagemap (the kernel's Documentation/admin-guide/mm/pagemap.rst). */
#define IN_MEMORY (1ULL << 63)
#define IN_SWAP (1ULL << 62)

/* Where a file has data: [data, hole) is the last that was found, and there is none before it that was not asked
 * for. */
struct extent {
    uint64_t data, hole;
};

/* One after the other, the pages of a chain of files. */
struct reader {
    const struct corral_ram_layer *layers;
    unsigned n;
    struct extent extents[FILES_MAX];
};

/* A run of pages that are to be written, which ends where the next page is. */
struct run {
    int fd;
    uint64_t offset;
    const uint8_t *begin;
    int64_t written;
};

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

static int write_all(int fd, const void *data, uint64_t length, uint64_t offset)
{
    const uint8_t *from = data;
    while (length) {
        ssize_t done = pwrite(fd, from, length < RUN_MAX ? length : RUN_MAX, offset);
        if (done < 0 && errno != EINTR)
            return -errno;
        if (done > 0)
            from += done, offset += done, length -= done;
    }
    return 0;
}

/* Ends the run before `at`; the next begins at `next`. */
static int end_run(struct run *run, const uint8_t *at, const uint8_t *next)
{
    uint64_t length = at - run->begin;
    int result = write_all(run->fd, run->begin, length, run->offset);
    run->written += length;
    run->offset += next - run->begin;
    run->begin = next;
    return result;
}

int64_t corral_pages_save(int fd, uint64_t offset, const uint8_t *at, uint64_t length)
{
    struct run run = {.fd = fd, .offset = offset, .begin = at};
    const uint8_t *end = at + length;
    int result = 0;
    for (; !result && at < end; at += PAGE)
        if (is_zero(at))
            result = end_run(&run, at, at + PAGE);
    if (!result)
        result = end_run(&run, end, end);
    return result ? result : run.written;
}

/* Which of `n` pages from `at` on were touched; all of them where the host does not tell. */
static void look_up(int pagemap, const uint8_t *at, unsigned n, uint64_t *entries)
{
    ssize_t wanted = n * sizeof *entries;
    if (pagemap < 0 || pread(pagemap, entries, wanted, (uintptr_t)at / PAGE * sizeof *entries) != wanted)
        memset(entries, 0xff, wanted);
}

/* Where a page is, or NULL for a hole, which is zeros. Pages are asked for in their order. */
static const struct corral_ram_layer *find(struct reader *reader, uint64_t page)
{
    for (unsigned i = 0; i < reader->n; i++) {
        const struct corral_ram_layer *layer = &reader->layers[i];
        struct extent *extent = &reader->extents[i];
        if (!corral_ram_owns(layer, page))
            continue;
        uint64_t at = layer->offset + page * PAGE;
        if (at >= extent->hole) {
            off_t data = lseek(layer->fd, at, SEEK_DATA);
            off_t hole = data < 0 ? data : lseek(layer->fd, data, SEEK_HOLE);
            bool none = data < 0 && errno == ENXIO;
            extent->data = none ? UINT64_MAX : data < 0 ? 0 : (uint64_t)data;
            extent->hole = hole < 0 ? UINT64_MAX : (uint64_t)hole;
        }
        return at + PAGE > extent->data ? layer : NULL;
    }
    return NULL;
}

/* Whether a page is as in the parent. Returns -errno when that cannot be read. */
static int is_same(struct reader *parent, uint64_t page, const uint8_t *at, bool zero)
{
    uint8_t theirs[PAGE];
    const struct corral_ram_layer *layer = find(parent, page);
    if (!layer)
        return zero;
    ssize_t got = pread(layer->fd, theirs, PAGE, layer->offset + page * PAGE);
    if (got != PAGE)
        return got < 0 ? -errno : -EIO;
    return zero ? is_zero(theirs) : !memcmp(theirs, at, PAGE);
}

static int64_t save_pages(const struct corral_ram_job *job, uint64_t begin, uint64_t length, int pagemap,
                          uint64_t *own)
{
    const uint8_t *at = (const uint8_t *)job->at + begin, *end = at + length;
    const uint64_t first = begin / PAGE;
    struct reader mapped = {.layers = job->mapped, .n = job->n_mapped};
    struct reader parent = {.layers = job->parent, .n = job->n_parent};
    struct run run = {.fd = job->fd, .offset = job->offset + begin, .begin = at};
    uint64_t entries[PAGES_AT_ONCE], page = first;
    int result = 0;

    while (result >= 0 && at < end) {
        unsigned n = (uint64_t)(end - at) / PAGE < PAGES_AT_ONCE ? (end - at) / PAGE : PAGES_AT_ONCE;
        look_up(pagemap, at, n, entries);
        for (unsigned i = 0; result >= 0 && i < n; i++, page++, at += PAGE) {
            bool touched = entries[i] & (IN_MEMORY | IN_SWAP);
            bool zero = touched ? is_zero(at) : !find(&mapped, page);
            bool same = false;
            if (own) {
                result = is_same(&parent, page, at, zero);
                same = result == 1;
                own[(page - first) / 64] |= (uint64_t)!same << page % 64;
            }
            if (result >= 0 && (zero || same))
                result = end_run(&run, at, at + PAGE);
        }
    }
    if (result >= 0)
        result = end_run(&run, end, end);
    return result < 0 ? result : run.written;
}

static int kept_pagemap = -1; /* of this process; written before there are threads that save */

static int open_pagemap(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

void corral_ram_prepare_save(void)
{
    if (kept_pagemap < 0)
        kept_pagemap = open_pagemap();
}

int64_t corral_ram_save(const struct corral_ram_job *job, uint64_t begin, uint64_t length)
{
    uint64_t bits = (length / PAGE + 63) / 64 * 8;
    uint64_t *own = NULL;
    if (job->n_mapped > FILES_MAX || job->n_parent > FILES_MAX || begin / PAGE % 64)
        return -EINVAL;
    if (job->n_parent) { /* by mmap: a process that was forked has no locks of malloc */
        own = mmap(NULL, bits, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (own == MAP_FAILED)
            return -errno;
    }
    const int opened = kept_pagemap >= 0 ? -1 : open_pagemap();
    int64_t result = save_pages(job, begin, length, opened >= 0 ? opened : kept_pagemap, own);
    if (opened >= 0)
        close(opened);
    if (own) {
        int error = result < 0 ? 0 : write_all(job->fd, own, bits, job->own_at + begin / PAGE / 8);
        result = error ? error : result;
        munmap(own, bits);
    }
    return result;
}

static unsigned add(int *kept, unsigned n, const struct corral_ram_layer *layers, unsigned count)
{
    for (unsigned i = 0; i < count && i < FILES_MAX; i++)
        kept[n++] = layers[i].fd;
    return n;
}

/* Closes all descriptors but those of the job and `tell`, if that is one. */
static void keep_only(const struct corral_ram_job *job, int tell)
{
    int kept[2 * FILES_MAX + 2] = {job->fd}, from = 0;
    unsigned n = 1;
    kept_pagemap = -1; /* it was the other process's */
    if (tell >= 0)
        kept[n++] = tell;
    n = add(kept, n, job->mapped, job->n_mapped);
    n = add(kept, n, job->parent, job->n_parent);
    for (;;) {
        int next = -1; /* the lowest that is kept from `from` on */
        for (unsigned i = 0; i < n; i++)
            if (kept[i] >= from && (next < 0 || kept[i] < next))
                next = kept[i];
        if (next < 0)
            break;
        if (next > from)
            close_range(from, next - 1, 0);
        from = next + 1;
    }
    close_range(from, ~0U, 0);
}

/* Between fork and _exit: nothing here may take a lock of the process that there was. */
static void save_beside(const struct corral_ram_job *job, int tell, pid_t parent)
{
    setsid(); /* what ends a terminal's processes is not about this one */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    keep_only(job, tell);
    int64_t result = corral_ram_save(job, 0, job->length);
    _exit(write(tell, &result, sizeof result) == sizeof result ? 0 : 1);
}

int corral_ram_save_beside(const struct corral_ram_job *job, int tell)
{
    pid_t own = getpid(), pid = fork();
    if (pid == 0)
        save_beside(job, tell, own);
    return pid < 0 ? -errno : pid;
}

/* As save_beside. */
static void save_behind(const struct corral_ram_job *job, const char *unfinished, const char *folder)
{
    setsid();
    keep_only(job, -1);
    setpriority(PRIO_PROCESS, 0, NICE);
    if (corral_ram_save(job, 0, job->length) >= 0 && fsync(job->fd) == 0 &&
        renameat2(AT_FDCWD, unfinished, AT_FDCWD, folder, RENAME_NOREPLACE) == 0)
        _exit(0);
    ftruncate(job->fd, 0) < 0 ? _exit(2) : _exit(1);
}

int corral_ram_save_behind(const struct corral_ram_job *job, const char *unfinished, const char *folder)
{
    pid_t pid = fork();
    if (pid == 0)
        save_behind(job, unfinished, folder);
    return pid < 0 ? -errno : 0;
}
