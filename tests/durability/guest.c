/* The first and only process of a Linux guest: it writes, syncs, and tells which step is done.
 *
 * From the kernel command line, as environment variables:
 *
 * workload=files: /dev/vda has a file system. Step by step a file is replaced (written anew, synced, renamed, its
 * folder synced), a record is appended to a log, a piece of a file is overwritten; what files.py knows as well.
 *
 * workload=raw: reads and writes of /dev/vda itself, without the guest's page cache. Each either fails or has the
 * right data; what a failed write has left is not looked at until a later one.
 *
 * steps=N: how many. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORT 0x600 /* takes the number of each step that is done, right when it is */
#define LONGEST 8192
#define BLOCK 4096
#define BLOCKS 512

static unsigned steps;

static void done(unsigned step)
{
    outl(step, PORT);
    printf("done %u\n", step);
}

/* --- files --- */

static const char *content(unsigned step, unsigned length)
{
    static char text[LONGEST];
    for (unsigned i = 0; i < length; i++)
        text[i] = step * 131 + i * 17 + (i >> 8) * 29;
    int n = snprintf(text, 9, "%07u\n", step);
    text[n] = step;
    return text;
}

static int put(int fd, unsigned step, unsigned length, off_t at)
{
    return fd >= 0 && pwrite(fd, content(step, length), length, at) == length ? 0 : -1;
}

static int replace(unsigned step, int folder)
{
    char name[32];
    snprintf(name, sizeof name, "/mnt/r%u", step / 3 % 6);
    int fd = open("/mnt/new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int bad = put(fd, step, 200 + step * 797 % 6000, 0) || fsync(fd);
    close(fd);
    return bad || rename("/mnt/new", name) || fsync(folder);
}

/* What nobody is promised: it is on its way to the disk while the others are. */
static void make_noise(unsigned step)
{
    char name[32];
    snprintf(name, sizeof name, "/mnt/noise%u", step % 3);
    if (step % 7 == 0)
        unlink(name);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    put(fd, step, 1000 + step * 577 % 5000, 0);
    close(fd);
}

static void files(void)
{
    if (mount("/dev/vda", "/mnt", "ext4", 0, NULL)) {
        printf("cannot mount: %s\n", strerror(errno));
        return;
    }
    int folder = open("/mnt", O_RDONLY), log = open("/mnt/log", O_WRONLY | O_CREAT, 0644);
    int data = open("/mnt/data", O_WRONLY | O_CREAT, 0644);
    off_t end = 0;
    for (unsigned step = 1; step <= steps; step++) {
        unsigned length = 64 + step * 331 % 1500;
        int bad;
        make_noise(step);
        if (step % 3 == 0) {
            bad = replace(step, folder);
        } else if (step % 3 == 1) {
            bad = put(log, step, length, end) || fdatasync(log);
            end += bad ? 0 : length;
        } else {
            bad = put(data, step, 2048, step / 3 % 8 * 2048) || fdatasync(data);
        }
        if (bad)
            printf("failed %u: %s\n", step, strerror(errno));
        else
            done(step);
    }
}

/* --- the disk itself --- */

static void raw(void)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    static uint64_t written[BLOCKS]; /* the step; 0: unknown */
    unsigned failed = 0, wrong = 0;
    int fd = open("/dev/vda", O_RDWR | O_DIRECT);
    srandom(1);
    for (unsigned step = 1; step <= steps; step++) {
        unsigned at = random() % BLOCKS;
        /* Half of them are writes, and all whose content is not known. */
        if (!written[at] || random() % 2) {
            written[at] = 0;
            for (unsigned i = 0; i < BLOCK / 8; i++)
                ((uint64_t *)block)[i] = ((uint64_t)step << 32 | at) * 0x9e3779b97f4a7c15 + i;
            if (pwrite(fd, block, BLOCK, (off_t)at * BLOCK) == BLOCK)
                written[at] = step;
            else
                failed++;
            if (step % 8 == 0 && fsync(fd))
                failed++;
        } else if (pread(fd, block, BLOCK, (off_t)at * BLOCK) == BLOCK) {
            for (unsigned i = 0; i < BLOCK / 8; i++)
                if (((uint64_t *)block)[i] != (written[at] << 32 | at) * 0x9e3779b97f4a7c15 + i) {
                    wrong++;
                    break;
                }
        } else {
            failed++;
        }
        outl(step, PORT);
    }
    printf("%u steps, %u failed, %u wrong\n", steps, failed, wrong);
}

int main(void)
{
    mkdir("/dev", 0755);
    mkdir("/mnt", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    setlinebuf(stdout);
    steps = atoi(getenv("steps"));
    const char *workload = getenv("workload");
    if (ioperm(PORT, 4, 1))
        printf("no port: %s\n", strerror(errno));
    else if (!strcmp(workload, "files"))
        files();
    else
        raw();
    printf("over\n");
    umount("/mnt");
    sync();
    reboot(RB_AUTOBOOT);
    return 1;
}
