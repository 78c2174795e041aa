/* Guest RAM in a file, written while the guest stands still or goes on. */
#ifndef CORRAL_RAM_SAVE_H
#define CORRAL_RAM_SAVE_H

#include "ram_file.h"

#include <stdint.h>

/* --- for Python --- */

struct corral_ram_job {
    int fd;          /* has a hole from `offset` on, as long as the RAM is */
    uint64_t offset; /* a multiple of a page, as `length` is */
    const void *at;
    uint64_t length;
    const struct corral_ram_layer *mapped; /* what corral_ram_map has put there; pages never touched are its own */
    unsigned n_mapped;                     /* 0: nothing, and such pages are zeros */
    const struct corral_ram_layer *parent; /* pages that are the same in these are left out */
    unsigned n_parent;                     /* 0: no parent */
    uint64_t own_at;                       /* with a parent: where in the file goes a bit for each page, that it is
                                              not left out; a multiple of 8 bytes of them */
};

/* Writes the pages of the job that are not zero, of `length` bytes from the byte `begin` on, which are multiples
 * of 64 pages, but for the end; the others stay holes. Pages that were never touched are not touched now, as far
 * as the host tells which. Returns how many bytes were written, or -errno. */
int64_t corral_ram_save(const struct corral_ram_job *job, uint64_t begin, uint64_t length);

/* For a process that can open nothing by then: which pages were touched can be told later too. */
void corral_ram_prepare_save(void);

/* All of it in a process of its own, which sees the memory as it is now and ends when this one does. It writes the
 * result to the pipe `tell`, as eight bytes, and has no descriptors but those named here. Returns its number, or
 * -errno. */
int corral_ram_save_beside(const struct corral_ram_job *job, int tell);

/* The same in a process that outlives this one. When all is on the disk it renames the folder `unfinished`, in
 * which the file is, to `folder`; else, as when that is there already, it empties the file, and the folder is left
 * to who finds it unlocked. Returns 0 or -errno. */
int corral_ram_save_behind(const struct corral_ram_job *job, const char *unfinished, const char *folder);

/* --- for C alone --- */

/* Writes the pages from `at` on that are not zero to `fd`, at `offset` and on. Returns how many bytes, or -errno.
 */
int64_t corral_pages_save(int fd, uint64_t offset, const uint8_t *at, uint64_t length);

#endif
