/* Files: read, written, looked at and listed. */
#pragma once

#include "wire.h"

#include <asm/stat.h>
#include <linux/stat.h>

#define ENTRY_SIZE 44
#define LONGEST_NAME 4096

static char text[HEADER + MOST + 1]; /* a frame's payload begins at HEADER */

/* What is known of a file, as the protocol has it; `name` and `link` follow. Returns its size. */
static word put_entry(char *to, const struct stat *about, const char *name, const char *link, word link_size)
{
    word n = length(name);
    put_number(to, about->st_mode, 4);
    put_number(to + 4, about->st_uid, 4);
    put_number(to + 8, about->st_gid, 4);
    put_number(to + 12, (word)about->st_size, 8);
    put_number(to + 20, about->st_mtime, 8);
    put_number(to + 28, about->st_mtime_nsec, 4);
    put_number(to + 32, about->st_rdev >> 8 & 0xfff, 4);
    put_number(to + 36, (about->st_rdev & 0xff) | (about->st_rdev >> 12 & 0xfff00), 4);
    put_number(to + 40, n, 2);
    put_number(to + 42, link_size, 2);
    memcpy(to + ENTRY_SIZE, name, n);
    memcpy(to + ENTRY_SIZE + n, link, link_size);
    return ENTRY_SIZE + n + link_size;
}

/* Sends one entry of `folder`, under that name. Returns its mode, or -errno. */
static long send_entry(unsigned char kind, int folder, const char *at, const char *name, struct stat *about)
{
    static char link[LONGEST_NAME];
    long size = 0, error = SYSCALL(newfstatat, folder, at, about, AT_SYMLINK_NOFOLLOW, 0);
    if (error < 0)
        return error;
    if ((about->st_mode & S_IFMT) == S_IFLNK)
        size = SYSCALL(readlinkat, folder, at, link, sizeof link, 0);
    if (size < 0)
        return size;
    send_in_place(kind, text + HEADER, put_entry(text + HEADER, about, name, link, size));
    return about->st_mode;
}

static void read_file_at(const char *path)
{
    long n, fd = SYSCALL(open, path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0, 0, 0);
    if (fd < 0)
        fail(fd, "open it");
    send(DONE, "", 0);
    while ((n = SYSCALL(read, fd, text + HEADER, MOST, 0, 0)) > 0)
        send_in_place(DATA, text + HEADER, n);
    if (n < 0)
        fail(n, "read it");
    send(END, "", 0);
}

static void write_file_at(const char *payload, word size)
{
    static char path[LONGEST_NAME + 1];
    if (size < 9 || size - 8 > LONGEST_NAME)
        fail(-EPROTO, "a request that is cut off");
    word mode = number(payload, 4), append = number(payload + 4, 4);
    memcpy(path, payload + 8, size - 7);
    long fd = SYSCALL(open, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (append ? O_APPEND : O_TRUNC), mode, 0, 0);
    if (fd < 0)
        fail(fd, "open it");
    send(DONE, "", 0); /* a host that has nothing to write to is told before it sends it */
    for (;;) {
        unsigned char kind = receive(text + HEADER, &size);
        if (kind == END)
            break;
        if (kind != DATA)
            fail(-EPROTO, "neither data nor its end");
        for (word done = 0; done < size;) {
            long n = SYSCALL(write, fd, text + HEADER + done, size - done, 0, 0);
            if (n < 0 && n != -EINTR)
                fail(n, "write it");
            done += n > 0 ? n : 0;
        }
    }
    long error = SYSCALL(close, fd, 0, 0, 0, 0);
    if (error < 0)
        fail(error, "write it");
    send(DONE, "", 0);
}

struct directory_entry { /* of getdents64(2) */
    unsigned long long inode, offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

static int is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static void list_folder(const char *path)
{
    static char list[32768] __attribute__((aligned(8)));
    struct stat about;
    long n, fd = SYSCALL(open, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        fail(fd, "open it");
    send(DONE, "", 0);
    while ((n = SYSCALL(getdents64, fd, list, sizeof list, 0, 0)) > 0)
        for (long at = 0; at < n;) {
            const struct directory_entry *one = (const void *)(list + at);
            at += one->size;
            if (!is_dots(one->name))
                send_entry(ENTRY, (int)fd, one->name, one->name, &about); /* one that is gone is left out */
        }
    if (n < 0)
        fail(n, "read it");
    send(END, "", 0);
}

/* A folder, and those above it. -errno; 0 also when it is there. */
static long make_folders(char *path, word mode)
{
    struct stat about;
    for (char *at = path + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            long error = SYSCALL(mkdir, path, 0755, 0, 0, 0);
            *at = '/';
            if (error < 0 && error != -EEXIST)
                return error;
        }
    long error = SYSCALL(mkdir, path, mode, 0, 0, 0);
    if (error != -EEXIST)
        return error;
    error = SYSCALL(newfstatat, AT_FDCWD, path, &about, 0, 0);
    return error < 0 ? error : (about.st_mode & S_IFMT) == S_IFDIR ? 0 : -EEXIST;
}

static void answer(long error, const char *what)
{
    if (error < 0)
        fail(error, what);
    send(DONE, "", 0);
}

static void make_folder(char *payload, word size)
{
    if (size < 5)
        fail(-EPROTO, "a request that is cut off");
    answer(make_folders(payload + 4, number(payload, 4)), "make it");
}

/* The folder is made when it is not there. */
static void mount_there(char *payload, word size)
{
    char *words[4], *at = payload + 4;
    for (int i = 0; i < 4; i++) {
        if (at >= payload + size)
            fail(-EPROTO, "a request that is cut off");
        words[i] = at;
        at += length(at) + 1;
    }
    long error = make_folders(words[1], 0755);
    if (error < 0)
        fail(error, "make the folder");
    word flags = number(payload, 4) & 1 ? MS_RDONLY : 0;
    answer(SYSCALL(mount, words[0], words[1], words[2], flags, words[3]), "mount it");
}

static void unmount_there(const char *path)
{
    answer(SYSCALL(umount2, path, 0, 0, 0, 0), "unmount it");
}

static void remove_file(const char *path)
{
    long error = SYSCALL(unlinkat, AT_FDCWD, path, 0, 0, 0);
    if (error == -21 /* EISDIR */)
        error = SYSCALL(unlinkat, AT_FDCWD, path, AT_REMOVEDIR, 0, 0);
    answer(error, "remove it");
}

static void tell_of(const char *path)
{
    struct stat about;
    long error = send_entry(DONE, AT_FDCWD, path, "", &about);
    if (error < 0)
        fail(error, "look at it");
}
