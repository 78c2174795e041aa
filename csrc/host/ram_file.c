#define _GNU_SOURCE
#include "ram_file.h"
#include "ram_save.h"

#include <asm/termbits.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPPED_MAX 10000 /* runs of pages; a process has 65,530 mappings */
#define SHORT 4          /* pages: to read them is no dearer than to map them */

static struct termios2 terminal; /* as it was when the first file was mapped */
static bool has_terminal;
static bool told;                 /* atomic */
static struct sigaction previous; /* what else is done about SIGBUS, as csrc/assist/trampoline.c does */

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

static int map(uint8_t *to, uint64_t length, const struct corral_ram_layer *layer, uint64_t at)
{
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    void *mapped = mmap(to, length, PROT_READ | PROT_WRITE, flags, layer->fd, layer->offset + at);
    return mapped == MAP_FAILED ? -errno : 0;
}

static int read_all(uint8_t *to, uint64_t length, const struct corral_ram_layer *layer, uint64_t at)
{
    while (length) {
        ssize_t done = pread(layer->fd, to, length, layer->offset + at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        to += done, at += done, length -= done;
    }
    return 0;
}

/* The pages of one file that are its own, over what is there. */
static int map_own(uint8_t *to, uint64_t pages, const struct corral_ram_layer *layer, unsigned *mapped)
{
    uint64_t end;
    int result = 0;
    for (uint64_t page = 0; !result && page < pages; page = end) {
        if (page % 64 == 0 && !layer->own[page / 64]) {
            end = page + 64;
            continue;
        }
        for (end = page; end < pages && corral_ram_owns(layer, end); end++)
            ;
        uint64_t at = page * CORRAL_RAM_PAGE, length = (end - page) * CORRAL_RAM_PAGE;
        if (end == page)
            end = page + 1;
        else if (end - page >= SHORT && *mapped < MAPPED_MAX)
            (*mapped)++, result = map(to + at, length, layer, at);
        else
            result = read_all(to + at, length, layer, at);
    }
    return result;
}

int corral_ram_map(void *at, uint64_t length, const struct corral_ram_layer *layers, unsigned n)
{
    static pthread_once_t listens = PTHREAD_ONCE_INIT;
    unsigned mapped = 0;
    pthread_once(&listens, listen_for_cut_files);
    int result = map(at, length, &layers[--n], 0);
    while (!result && n)
        result = map_own(at, length / CORRAL_RAM_PAGE, &layers[--n], &mapped);
    return result;
}
