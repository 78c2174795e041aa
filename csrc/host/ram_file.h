/* Guest RAM that is mapped from files. */
#ifndef CORRAL_RAM_FILE_H
#define CORRAL_RAM_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* A file with pages of guest RAM, which may lie over others. */
struct corral_ram_layer {
    int fd;
    uint64_t offset;     /* where its first page would be; each has its place, whether or not it is there */
    const uint64_t *own; /* a bit for each page: it is in this file; NULL: all are */
};

#define CORRAL_RAM_CUT_STATUS 3

/* Maps `length` bytes of these files in place of the memory `at`, both multiples of a page: each page from the
 * first that has it, and the last has all. Few scattered pages are read. What is written there stays there. From
 * the first of these calls on, a touch of what a shortened file has lost (BUS_ADRERR) ends the process with this
 * status and a line that says so, and its terminal is what it was then. Other signals of that number go on to the
 * handler that was there. Returns 0 or -errno. */
int corral_ram_map(void *at, uint64_t length, const struct corral_ram_layer *layers, unsigned n);

/* --- for C alone --- */

#define CORRAL_RAM_PAGE 4096u

static inline bool corral_ram_owns(const struct corral_ram_layer *layer, uint64_t page)
{
    return !layer->own || layer->own[page / 64] >> page % 64 & 1;
}

#endif
