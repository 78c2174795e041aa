/* What a file system does of what POSIX and Linux promise: a line for each, "NAME ok" or "NAME" and why not.
 * argv[1] is a folder on it, to be written. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *cause; /* of what failed without an errno */

static int wrong(const char *why)
{
    cause = why;
    return -1;
}

static int new_file(const char *name, const char *content)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, content, strlen(content)) < 0)
        return -1;
    return fd;
}

static int unlinked(void)
{
    char got[3];
    struct stat about;
    int fd = new_file("unlinked", "abc");
    if (fd < 0 || unlink("unlinked") < 0 || fstat(fd, &about) < 0 || ftruncate(fd, 2) < 0)
        return -1;
    if (pwrite(fd, "x", 1, 0) != 1 || pread(fd, got, 3, 0) != 2)
        return -1;
    close(fd);
    return access("unlinked", F_OK) == 0 ? wrong("still there") : 0;
}

static int renamed(void)
{
    char got;
    int fd = new_file("renamed", "abc");
    return fd < 0 || rename("renamed", "other") < 0 ? -1 : pread(fd, &got, 1, 0) == 1 ? 0 : -1;
}

static int mapped(int flags)
{
    int fd = new_file("mapped", "abc");
    char got, *map = fd < 0 ? MAP_FAILED : mmap(NULL, 3, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (map == MAP_FAILED)
        return -1;
    if (map[0] != 'a')
        return wrong("other content");
    map[0] = 'x';
    if (flags == MAP_SHARED && (msync(map, 3, MS_SYNC) < 0 || pread(fd, &got, 1, 0) != 1))
        return -1;
    return flags == MAP_SHARED && got != 'x' ? wrong("not written") : 0;
}

static int map_shared(void)
{
    return mapped(MAP_SHARED);
}

static int map_private(void)
{
    return mapped(MAP_PRIVATE);
}

static int lock_posix(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int fd = new_file("locked", "abc");
    return fd < 0 ? -1 : fcntl(fd, F_SETLK, &lock);
}

static int lock_of_description(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int fd = new_file("locked by description", "abc");
    return fd < 0 ? -1 : fcntl(fd, F_OFD_SETLK, &lock);
}

static int lock_whole(void)
{
    int fd = new_file("locked whole", "abc"), again = open("locked whole", O_RDWR);
    if (fd < 0 || again < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -1;
    return flock(again, LOCK_EX | LOCK_NB) == 0 ? wrong("two have it") : 0;
}

static int allocated(void)
{
    int fd = new_file("allocated", "");
    return fd < 0 ? -1 : fallocate(fd, 0, 0, 1 << 16);
}

static int hole(void)
{
    int fd = new_file("hole", "abc");
    return fd < 0 ? -1 : fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1);
}

static int unnamed(void)
{
    return open(".", O_TMPFILE | O_RDWR, 0600);
}

static int rename_if_free(void)
{
    new_file("one", "1"), new_file("two", "2");
    if (syscall(SYS_renameat2, AT_FDCWD, "one", AT_FDCWD, "two", RENAME_NOREPLACE) == 0)
        return wrong("replaced");
    return errno == EEXIST ? 0 : -1;
}

static int rename_exchange(void)
{
    new_file("one", "1"), new_file("two", "2");
    return syscall(SYS_renameat2, AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE);
}

static int appended(void)
{
    struct stat about;
    int fd = new_file("appended", "abc"), again = open("appended", O_WRONLY | O_APPEND);
    if (fd < 0 || again < 0 || write(again, "d", 1) != 1 || write(again, "e", 1) != 1 || fstat(again, &about) < 0)
        return -1;
    return about.st_size == 5 ? 0 : wrong("another size");
}

static int exclusive(void)
{
    new_file("exclusive", "");
    return open("exclusive", O_CREAT | O_EXCL | O_WRONLY, 0644) >= 0 ? wrong("made again")
           : errno == EEXIST                                         ? 0
                                                                     : -1;
}

static int links(void)
{
    struct stat about;
    new_file("hard", "");
    if (symlink("hard", "soft") < 0 || link("hard", "harder") < 0 || stat("soft", &about) < 0)
        return -1;
    return about.st_nlink == 2 ? 0 : wrong("a wrong count");
}

static int mode_and_times(void)
{
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    struct stat about;
    new_file("mode", "");
    if (chmod("mode", 0751) < 0 || utimensat(AT_FDCWD, "mode", times, 0) < 0 || stat("mode", &about) < 0)
        return -1;
    if ((about.st_mode & 07777) != 0751 || about.st_mtim.tv_sec != 2000)
        return wrong("not kept");
    return about.st_mtim.tv_nsec == 7 ? 0 : wrong("no nanoseconds");
}

static int owner(void)
{
    struct stat about;
    new_file("owner", "");
    if (chown("owner", 12, 34) < 0 || stat("owner", &about) < 0)
        return -1;
    return about.st_uid == 12 && about.st_gid == 34 ? 0 : wrong("not kept");
}

static int attributes(void)
{
    char got[4];
    new_file("attributes", "");
    return setxattr("attributes", "user.a", "abc", 3, 0) < 0 ? -1
           : getxattr("attributes", "user.a", got, 4) == 3   ? 0
                                                             : -1;
}

static int fifo(void)
{
    return mkfifo("fifo", 0600);
}

static int socket_in_it(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&name, sizeof name);
}

static int direct(void)
{
    static char page[4096] __attribute__((aligned(4096)));
    int fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0644);
    return fd < 0                                                                                   ? -1
           : pwrite(fd, page, sizeof page, 0) == sizeof page && pread(fd, page, sizeof page, 0) > 0 ? 0
                                                                                                    : -1;
}

static int sparse(void)
{
    struct stat about;
    int fd = new_file("sparse", "");
    if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || pwrite(fd, "x", 1, 1 << 19) != 1 || fstat(fd, &about) < 0)
        return -1;
    return about.st_size == 1 << 20 ? 0 : wrong("another size");
}

static int synced(void)
{
    int fd = new_file("synced", "abc"), folder = open(".", O_RDONLY | O_DIRECTORY);
    return fd < 0 || fsync(fd) < 0 || fdatasync(fd) < 0 || fsync(folder) < 0 ? -1 : 0;
}

static int copied(void)
{
    int from = new_file("from", "abc"), to = new_file("to", "");
    loff_t at = 0;
    return copy_file_range(from, &at, to, NULL, 3, 0) == 3 ? 0 : -1;
}

static const struct {
    const char *name;
    int (*test)(void);
} tests[] = {
    {"open file that is unlinked", unlinked},
    {"open file that is renamed", renamed},
    {"mmap, shared", map_shared},
    {"mmap, private", map_private},
    {"fcntl lock", lock_posix},
    {"lock of an open file description", lock_of_description},
    {"flock", lock_whole},
    {"fallocate", allocated},
    {"fallocate, punch a hole", hole},
    {"O_TMPFILE", unnamed},
    {"renameat2, no replace", rename_if_free},
    {"renameat2, exchange", rename_exchange},
    {"O_APPEND", appended},
    {"O_EXCL", exclusive},
    {"symbolic and hard links", links},
    {"modes and times", mode_and_times},
    {"owners, as root", owner},
    {"extended attributes", attributes},
    {"FIFO", fifo},
    {"Unix socket", socket_in_it},
    {"O_DIRECT", direct},
    {"sparse files", sparse},
    {"fsync", synced},
    {"copy_file_range", copied},
};

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) < 0)
        return 2;
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        cause = NULL;
        int result = tests[i].test();
        const char *why = cause ? cause : strerrorname_np(errno);
        printf("semantics: %s: %s\n", tests[i].name, result < 0 ? why : "ok");
        fflush(stdout);
    }
    return 0;
}
