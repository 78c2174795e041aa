/* Guest RAM as C sees it: one mapping, two regions, one checked way in. */
#ifndef CORRAL_MEMORY_H
#define CORRAL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* --- for Python --- */

/* RAM is [0, low_end) and, when high_end is not zero, [CORRAL_HIGH_BASE, high_end). The host mapping holds
 * both without a gap. */
#define CORRAL_HIGH_BASE 0x100000000ULL

struct corral_ram {
    uint8_t *host;
    uint64_t low_end;
    uint64_t high_end;
};

/* --- for C alone --- */

/* The host address of [gpa, gpa + len), or NULL when any byte of it is not RAM. Never wraps: gpa and len may
 * be anything that a guest can write. */
static inline void *corral_ram_at(const struct corral_ram *ram, uint64_t gpa, uint64_t len)
{
    if (gpa < ram->low_end)
        return len <= ram->low_end - gpa ? ram->host + gpa : NULL;
    if (gpa >= CORRAL_HIGH_BASE && gpa < ram->high_end)
        return len <= ram->high_end - gpa ? ram->host + ram->low_end + (gpa - CORRAL_HIGH_BASE) : NULL;
    return NULL;
}

#endif
