/* A file or a block device: random reads and writes of 4 KiB past the page cache, and long ones in order; what is
 * read is checked. disk PATH [SECONDS [MIB]]: the first so many MiB of it are overwritten */
#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL 4096
#define LARGE (1 << 20)
#define MOST 200000

static int file;
static uint64_t blocks, *content;
static double taken[MOST];

/* Each block says where it is, in each of its words. */
static void fill(uint64_t *words, uint64_t block, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] = (block + i / (SMALL / 8)) * 0x9e3779b97f4a7c15 + i % (SMALL / 8);
}

static void check(const uint64_t *words, uint64_t block)
{
    for (size_t i = 0; i < SMALL / 8; i += 101)
        if (words[i] != block * 0x9e3779b97f4a7c15 + i)
            end(1, "disk", "what was read is not what was written");
}

static void done(const char *kind, size_t count, double seconds)
{
    char name[64];
    qsort(taken, count, sizeof *taken, by_size);
    snprintf(name, sizeof name, "%s-4K", kind);
    told(name, (double)count / seconds, "op/s");
    snprintf(name, sizeof name, "%s-4K-p50", kind);
    told(name, quantile(taken, count, 0.5) * 1e6, "us");
    snprintf(name, sizeof name, "%s-4K-p99", kind);
    told(name, quantile(taken, count, 0.99) * 1e6, "us");
}

static void at_random(const char *kind, int writes, double seconds)
{
    uint64_t random = 88172645463325252;
    size_t count = 0;
    double start = now(), last = start;
    while (count < MOST && (count < 10 || last < start + seconds)) {
        uint64_t block = next_random(&random) % blocks;
        if (writes)
            fill(content, block, SMALL);
        double before = now();
        ssize_t moved = writes ? pwrite(file, content, SMALL, (off_t)(block * SMALL))
                               : pread(file, content, SMALL, (off_t)(block * SMALL));
        last = now();
        if (moved != SMALL)
            fail(kind);
        taken[count++] = last - before;
        if (!writes)
            check(content, block);
    }
    done(kind, count, last - start);
}

/* MB a second; all of it, once at least. */
static double in_order(int writes, double seconds)
{
    double moved = 0, start = now();
    do
        for (uint64_t at = 0; at + LARGE <= blocks * SMALL; at += LARGE) {
            if (writes)
                fill(content, at / SMALL, LARGE);
            ssize_t size =
                writes ? pwrite(file, content, LARGE, (off_t)at) : pread(file, content, LARGE, (off_t)at);
            if (size != LARGE)
                fail("disk");
            if (!writes)
                check(content, at / SMALL);
            moved += LARGE;
        }
    while (now() < start + seconds);
    if (writes && fsync(file))
        fail("fsync");
    return moved / (now() - start) / 1e6;
}

int main(int count, char **words)
{
    if (count < 2)
        end(1, words[0], "it wants the path of a file or of a disk that may be overwritten");
    double seconds = argument(count - 1, words + 1, 2) / 4;
    uint64_t size = (uint64_t)(count > 3 ? atol(words[3]) : 64) << 20, there = 0;
    if (!size || size > 1ull << 36)
        end(1, words[0], "a size is 1 to 65536 MiB");
    file = open(words[1], O_RDWR | O_DIRECT);
    if (file < 0 && errno == EINVAL) /* some file systems have no direct I/O */
        file = open(words[1], O_RDWR);
    struct stat status;
    if (file < 0 || fstat(file, &status))
        fail(words[1]);
    if (S_ISBLK(status.st_mode) && !ioctl(file, BLKGETSIZE64, &there) && there < size)
        size = there;
    if (S_ISREG(status.st_mode) && ftruncate(file, (off_t)size))
        fail(words[1]);
    blocks = size / LARGE * (LARGE / SMALL);
    content = aligned_alloc(SMALL, LARGE);
    if (!content || !blocks)
        end(1, words[0], "no memory, or less than 1 MiB to work on");
    told("write-sequential", in_order(1, seconds), "MB/s");
    told("read-sequential", in_order(0, seconds), "MB/s");
    at_random("read", 0, seconds);
    at_random("write", 1, seconds);
    double flushes[MOST_BATCHES], until = now() + seconds;
    size_t flushed = 0;
    while (flushed < MOST_BATCHES && (flushed < 3 || now() < until)) {
        fill(content, flushed, SMALL);
        double before = now();
        if (pwrite(file, content, SMALL, (off_t)(flushed * SMALL)) != SMALL || fdatasync(file))
            fail("fdatasync");
        flushes[flushed++] = now() - before;
    }
    qsort(flushes, flushed, sizeof *flushes, by_size);
    told("write-and-flush", flushes[flushed / 2] * 1e6, "us");
    return 0;
}
