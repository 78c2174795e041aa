/* Guest RAM in a file, and from one. */
#ifndef CORRAL_RAM_FILE_H
#define CORRAL_RAM_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* Writes the pages of `length` bytes from `at` on that are not zero to `fd`, at `offset` and on; the others stay
 * holes of the file. Pages that were never touched are not touched now, unless `all` says that they may hold
 * something: that of a file which is mapped there. Returns how many bytes were written, or -errno. */
int64_t corral_ram_save(int fd, uint64_t offset, const void *at, uint64_t length, bool all);

/* For a process that can open nothing by then: which pages were touched can be told later too. */
void corral_ram_prepare_save(void);

/* corral_ram_save in a process of its own, which sees the memory as it is now and outlives this one. When all is
 * on the disk it renames the folder `unfinished`, in which the file of `fd` is, to `folder`; else, as when that is
 * there already, it empties the file, and the folder is left to who finds it unlocked. It has no other descriptor.
 * Returns 0 or -errno. */
int corral_ram_save_behind(int fd, uint64_t offset, const void *at, uint64_t length, bool all,
                           const char *unfinished, const char *folder);

#define CORRAL_RAM_CUT_STATUS 3

/* Maps `length` bytes of `fd`, from `offset` on, in place of the memory `at`: both multiples of a page. What is
 * written there stays there. From the first of these calls on, a touch of what a shortened file has lost
 * (BUS_ADRERR) ends the process with this status and a line that says so, and its terminal is what it was then.
 * Other signals of that number go on to the handler that was there. Returns 0 or -errno. */
int corral_ram_map(void *at, uint64_t length, int fd, uint64_t offset);

/* --- for C alone --- */

#endif
