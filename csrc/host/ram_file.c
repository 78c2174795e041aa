#define _GNU_SOURCE
#include "ram_file.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGES_AT_ONCE 512u
#define NICE 10
#define RUN_MAX (1u << 20) /* bytes of one write: what a stop waits for */

/* Of an entry of /proc/PID/pagemap (the kernel's Documentation/admin-guide/mm/pagemap.rst). */
#define IN_MEMORY (1ULL << 63)
#define IN_SWAP (1ULL << 62)

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

static int write_all(int fd, const uint8_t *from, uint64_t length, uint64_t offset)
{
    while (length) {
        ssize_t done = pwrite(fd, from, length < RUN_MAX ? length : RUN_MAX, offset);
        if (done < 0 && errno != EINTR)
            return -errno;
        if (done > 0)
            from += done, offset += done, length -= done;
    }
    return 0;
}

/* Which of `n` pages from `at` on may hold something; all of them where the host does not tell. */
static void look_up(int pagemap, const uint8_t *at, unsigned n, uint64_t *entries)
{
    ssize_t wanted = n * sizeof *entries;
    if (pagemap < 0 || pread(pagemap, entries, wanted, (uintptr_t)at / PAGE * sizeof *entries) != wanted)
        memset(entries, 0xff, wanted);
}

static int kept_pagemap = -1; /* written once, before there are threads that save */

static int open_pagemap(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

void corral_ram_prepare_save(void)
{
    if (kept_pagemap < 0)
        kept_pagemap = open_pagemap();
}

int64_t corral_ram_save(int fd, uint64_t offset, const void *start, uint64_t length, bool all)
{
    const uint8_t *at = start, *end = at + length, *run = at; /* [run, at): to be written */
    uint64_t entries[PAGES_AT_ONCE];
    int64_t written = 0;
    int result = 0;
    const int opened = all || kept_pagemap >= 0 ? -1 : open_pagemap();
    const int pagemap = opened >= 0 || all ? opened : kept_pagemap;

    while (!result && at < end) {
        unsigned n = (uint64_t)(end - at) / PAGE < PAGES_AT_ONCE ? (end - at) / PAGE : PAGES_AT_ONCE;
        look_up(pagemap, at, n, entries);
        for (unsigned i = 0; !result && i < n; i++, at += PAGE) {
            if (entries[i] & (IN_MEMORY | IN_SWAP) && !is_zero(at))
                continue;
            result = write_all(fd, run, at - run, offset + (run - (const uint8_t *)start));
            written += at - run;
            run = at + PAGE;
        }
    }
    if (!result) {
        result = write_all(fd, run, at - run, offset + (run - (const uint8_t *)start));
        written += at - run;
    }
    if (opened >= 0)
        close(opened);
    return result ? result : written;
}

/* Between fork and _exit: nothing here may take a lock of the process that there was. */
static void save_behind(int fd, uint64_t offset, const void *at, uint64_t length, bool all, const char *unfinished,
                        const char *folder)
{
    setsid(); /* what ends a terminal's processes is not about this one */
    close_range(0, fd - 1, 0);
    close_range(fd + 1, ~0U, 0);
    setpriority(PRIO_PROCESS, 0, NICE);
    if (corral_ram_save(fd, offset, at, length, all) >= 0 && fsync(fd) == 0 &&
        renameat2(AT_FDCWD, unfinished, AT_FDCWD, folder, RENAME_NOREPLACE) == 0)
        _exit(0);
    ftruncate(fd, 0) < 0 ? _exit(2) : _exit(1);
}

int corral_ram_save_behind(int fd, uint64_t offset, const void *at, uint64_t length, bool all,
                           const char *unfinished, const char *folder)
{
    pid_t pid = fork();
    if (pid == 0)
        save_behind(fd, offset, at, length, all, unfinished, folder);
    return pid < 0 ? -errno : 0;
}

static struct termios2 terminal; /* as it was when the first file was mapped */
static bool has_terminal;
static bool told;                 /* atomic */
static struct sigaction previous; /* what else is done about SIGBUS, as csrc/trampoline.c does */

static void pass_on(int number, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        signal(number, SIG_DFL);
        if (info->si_code <= 0)
            raise(number); /* else the instruction that faulted does so again */
    }
}

/* A page of a mapped file that is not there any more: nothing can go on. */
static void bus_error(int number, siginfo_t *info, void *context)
{
    static const char said[] =
        "corral: a snapshot was cut off while a guest ran from it; remove one, or replace it, but "
        "do not write to it\n";
    if (info->si_code != BUS_ADRERR) {
        pass_on(number, info, context);
        return;
    }
    while (__atomic_exchange_n(&told, true, __ATOMIC_SEQ_CST)) {
        /* Another thread tells it, and ends the process. */
    }
    if (has_terminal)
        ioctl(STDIN_FILENO, TCSETS2, &terminal);
    if (write(STDERR_FILENO, said, sizeof said - 1) < 0) {
        /* The status tells as well. */
    }
    _exit(CORRAL_RAM_CUT_STATUS);
}

static void listen_for_cut_files(void)
{
    struct sigaction action = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    has_terminal = ioctl(STDIN_FILENO, TCGETS2, &terminal) == 0;
    sigaction(SIGBUS, NULL, &previous); /* known before the first signal can arrive */
    sigaction(SIGBUS, &action, NULL);
}

int corral_ram_map(void *at, uint64_t length, int fd, uint64_t offset)
{
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    static pthread_once_t listens = PTHREAD_ONCE_INIT;
    pthread_once(&listens, listen_for_cut_files);
    return mmap(at, length, PROT_READ | PROT_WRITE, flags, fd, offset) == MAP_FAILED ? -errno : 0;
}
