/* Whole trees of files, both ways: an entry each, folders before what is in them, and a file's content after its entry,
 * with holes where it has them. */
#pragma once

#include "files.h"

#define DEEPEST_FOLDER 200
#define SEEK_DATA 3
#define SEEK_HOLE 4
#define SEEK_SET 0

static char name[LONGEST_NAME + 1]; /* of what is at hand, from the tree's root on */

static void send_hole(word size)
{
    char bytes[8];
    put_number(bytes, size, 8);
    if (size)
        send(HOLE, bytes, sizeof bytes);
}

/* A file that changes meanwhile has as many bytes as its entry said: what is missing is a hole. */
static void send_content(int folder, const char *at, word size)
{
    long fd = SYSCALL(openat, folder, at, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0, 0);
    word done = 0;
    while (fd >= 0 && done < size) {
        long data = SYSCALL(lseek, fd, done, SEEK_DATA, 0, 0);
        if (data < 0) /* none follows, or its file system does not know */
            data = data == -6 /* ENXIO */ ? (long)size : (long)done;
        data = (word)data > size ? (long)size : data;
        send_hole((word)data - done);
        done = data;
        long hole = SYSCALL(lseek, fd, done, SEEK_HOLE, 0, 0);
        word end = hole > (long)done && (word)hole < size ? (word)hole : size;
        SYSCALL(lseek, fd, done, SEEK_SET, 0, 0);
        while (done < end) {
            word part = end - done < MOST ? end - done : MOST;
            long n = SYSCALL(read, fd, text + HEADER, part, 0, 0);
            if (n <= 0)
                goto over;
            send_in_place(DATA, text + HEADER, n);
            done += n;
        }
    }
over:
    send_hole(size - done);
    if (fd >= 0)
        SYSCALL(close, fd, 0, 0, 0, 0);
}

static void pack(int folder, const char *at, int deep);

static void pack_folder(int parent, const char *at, int deep)
{
    char list[4096] __attribute__((aligned(8)));
    word end = length(name);
    long n, fd = SYSCALL(openat, parent, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0, 0);
    if (fd < 0 || deep == DEEPEST_FOLDER)
        fail(fd < 0 ? fd : -ENAMETOOLONG, name);
    while ((n = SYSCALL(getdents64, fd, list, sizeof list, 0, 0)) > 0)
        for (long offset = 0; offset < n;) {
            const struct directory_entry *one = (const void *)(list + offset);
            offset += one->size;
            word size = length(one->name);
            if (is_dots(one->name))
                continue;
            if (end + size + 2 > sizeof name)
                fail(-ENAMETOOLONG, name);
            if (end)
                name[end] = '/';
            memcpy(name + end + !!end, one->name, size + 1);
            pack((int)fd, one->name, deep + 1);
            name[end] = 0;
        }
    SYSCALL(close, fd, 0, 0, 0, 0);
}

static void pack(int folder, const char *at, int deep)
{
    struct stat about;
    long mode = send_entry(ENTRY, folder, at, name, &about);
    if (mode < 0) {
        if (!deep)
            fail(mode, "look at it");
        return; /* it is gone meanwhile */
    }
    if ((mode & S_IFMT) == S_IFREG)
        send_content(folder, at, about.st_size);
    else if ((mode & S_IFMT) == S_IFDIR)
        pack_folder(folder, at, deep);
}

static void pack_tree(const char *path)
{
    struct stat about;
    long error = SYSCALL(newfstatat, AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW, 0);
    if (error < 0)
        fail(error, "look at it");
    send(DONE, "", 0);
    name[0] = 0;
    pack(AT_FDCWD, path, 0);
    send(END, "", 0);
}

/* --- into the guest --- */

/* The file whose content comes, -1: none. */
static long filling = -1;
static struct stat wanted;

static void finish_file(void)
{
    if (filling < 0)
        return;
    struct {
        long seconds, nanoseconds;
    } times[2] = {{(long)wanted.st_mtime, (long)wanted.st_mtime_nsec}, {(long)wanted.st_mtime, (long)wanted.st_mtime_nsec}};
    long error = SYSCALL(ftruncate, filling, wanted.st_size, 0, 0, 0); /* a hole at its end */
    if (error < 0)
        fail(error, name);
    SYSCALL(fchmod, filling, wanted.st_mode & 07777, 0, 0, 0);
    SYSCALL(utimensat, filling, 0, times, 0, 0);
    error = SYSCALL(close, filling, 0, 0, 0, 0);
    if (error < 0)
        fail(error, name);
    filling = -1;
}

/* Whether a name stays below the tree's root. */
static int stays_below(const char *path)
{
    if (*path == '/')
        return 0;
    for (; *path; path++) {
        if (path[0] == '.' && path[1] == '.' && (!path[2] || path[2] == '/'))
            return 0;
        while (*path && *path != '/')
            path++;
        if (!*path)
            return 1;
    }
    return 1;
}

static void unpack_entry(int root, const char *payload, word size, const char *path)
{
    static char link[LONGEST_NAME + 1];
    if (size < ENTRY_SIZE)
        fail(-EPROTO, "an entry that is cut off");
    word n = number(payload + 40, 2), link_size = number(payload + 42, 2);
    if (n > LONGEST_NAME || link_size > LONGEST_NAME || size != ENTRY_SIZE + n + link_size)
        fail(-EPROTO, "an entry that is cut off");
    memcpy(name, payload + ENTRY_SIZE, n);
    name[n] = 0;
    memcpy(link, payload + ENTRY_SIZE + n, link_size);
    link[link_size] = 0;
    wanted.st_mode = number(payload, 4);
    wanted.st_uid = number(payload + 4, 4);
    wanted.st_gid = number(payload + 8, 4);
    wanted.st_size = (long)number(payload + 12, 8);
    wanted.st_mtime = number(payload + 20, 8);
    wanted.st_mtime_nsec = number(payload + 28, 4);
    if (!stays_below(name))
        fail(-EINVAL, name);
    const char *at = n ? name : path;
    int folder = n ? root : AT_FDCWD, kind = (int)(wanted.st_mode & S_IFMT);
    long error = 0;
    if (kind != S_IFDIR)
        SYSCALL(unlinkat, folder, at, 0, 0, 0); /* what is there already; a link is not followed */
    if (kind == S_IFDIR) {
        error = SYSCALL(mkdirat, folder, at, wanted.st_mode & 07777, 0, 0);
        error = error == -EEXIST ? 0 : error;
        if (!error)
            SYSCALL(fchmodat, folder, at, wanted.st_mode & 07777, 0, 0);
    } else if (kind == S_IFLNK) {
        error = SYSCALL(symlinkat, link, folder, at, 0, 0);
    } else if (kind == S_IFREG) {
        error = filling = SYSCALL(openat, folder, at, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600, 0);
    } else if (kind == S_IFIFO) {
        error = SYSCALL(mknodat, folder, at, wanted.st_mode, 0, 0);
    } else {
        return; /* devices and sockets are of one system */
    }
    if (error < 0)
        fail(error, *name ? name : path);
    SYSCALL(fchownat, folder, at, wanted.st_uid, wanted.st_gid, AT_SYMLINK_NOFOLLOW);
}

static void unpack_tree(const char *path)
{
    static char target[LONGEST_NAME + 1];
    word size;
    memcpy(target, path, length(path) < LONGEST_NAME ? length(path) + 1 : LONGEST_NAME);
    long root = -1;
    send(DONE, "", 0);
    for (;;) {
        unsigned char kind = receive(text + HEADER, &size);
        if (kind == ENTRY || kind == END)
            finish_file();
        if (kind == END)
            break;
        if (kind == ENTRY) {
            unpack_entry((int)root, text + HEADER, size, target);
            if (root < 0) /* the first is the tree's root; a file has nothing below */
                root = SYSCALL(open, target, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
        } else if (kind == DATA && filling >= 0) {
            if (!write_whole((int)filling, text + HEADER, size))
                fail(-28 /* ENOSPC */, name);
        } else if (kind == HOLE && filling >= 0 && size == 8) {
            SYSCALL(lseek, filling, number(text + HEADER, 8), 1 /* SEEK_CUR */, 0, 0);
        } else if (kind != DATA && kind != HOLE) {
            fail(-EPROTO, "no part of a tree");
        }
    }
    send(DONE, "", 0);
}
