/* A copy of guest RAM as it was at one moment, and the ways between such moments (docs/rewind.md). */
#ifndef CORRAL_MIRROR_H
#define CORRAL_MIRROR_H

#include "memory.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* Bitmaps have a bit for each page, and are as long as a multiple of 64 of them. */
struct corral_mirror {
    uint8_t *ram;
    uint8_t *copy;
    uint64_t pages;
    uint8_t *idle; /* of each page: for how many resets it was in the log and had not changed */
};

/* Copies what was ever touched of RAM; the copy has nothing in it yet, or the same files mapped as RAM. Returns
 * how many pages, or -errno. */
int64_t corral_mirror_fill(const struct corral_mirror *m);

/* Takes out of `dirty` the pages that are as in the copy. Returns how many are left. */
uint64_t corral_mirror_changed(const struct corral_mirror *m, uint64_t *dirty);

/* Brings the copy up to RAM in the pages of `dirty`: their numbers go to `pages`, what the copy had to `contents`,
 * one after the other. */
void corral_mirror_advance(const struct corral_mirror *m, const uint64_t *dirty, uint32_t *pages,
                           uint8_t *contents);

/* Exchanges `n` pages of the copy with `contents`, and adds them to `dirty`. */
void corral_mirror_exchange(const struct corral_mirror *m, uint64_t n, const uint32_t *pages, uint8_t *contents,
                            uint64_t *dirty);

/* Brings RAM back to the copy in the pages of `dirty`. Those that have not changed for many resets are left in it,
 * and all others taken out: KVM shall tell of them anew when they change. Returns how many pages were copied.
 * `*tables`: a word that has changed may be an entry of a page table that a vCPU has used, below the guest
 * physical address `end`; KVM and the processor may know what it said. */
uint64_t corral_mirror_reset(const struct corral_mirror *m, uint64_t *dirty, uint64_t end, bool *tables);

/* Adds what is in `others`, of so many words. */
void corral_mirror_add(uint64_t *bits, const uint64_t *others, uint64_t words);

/* That `length` bytes of RAM from the byte `offset` on are perhaps written by the host. */
void corral_ram_touched(const struct corral_ram *ram, uint64_t offset, uint64_t length);

#endif
