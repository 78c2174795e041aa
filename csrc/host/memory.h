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
    uint64_t *touched; /* a bit for each page that was asked for here, from the first on; NULL: not kept */
};

/* --- for C alone --- */

#define CORRAL_RAM_SHIFT 12

/* Keeps for checkpoints which pages are perhaps written, by the host and not by the guest. */
static inline void corral_ram_touch(const struct corral_ram *ram, uint64_t offset, uint64_t len)
{
    uint64_t page = offset >> CORRAL_RAM_SHIFT;
    const uint64_t last = len ? (offset + len - 1) >> CORRAL_RAM_SHIFT : page;
    for (; page <= last; page++) {
        uint64_t *word = &ram->touched[page / 64], bit = 1ULL << page % 64;
        if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
            __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
    }
}

/* The host address of [gpa, gpa + len), or NULL when any byte of it is not RAM. Never wraps: gpa and len may
 * be anything that a guest can write. What is there must not be written: see corral_ram_at. */
static inline void *corral_ram_look_at(const struct corral_ram *ram, uint64_t gpa, uint64_t len)
{
    if (gpa < ram->low_end)
        return len <= ram->low_end - gpa ? ram->host + gpa : NULL;
    if (gpa >= CORRAL_HIGH_BASE && gpa < ram->high_end)
        return len <= ram->high_end - gpa ? ram->host + ram->low_end + (gpa - CORRAL_HIGH_BASE) : NULL;
    return NULL;
}

/* The same for who writes there, until its device is stopped at most. */
static inline void *corral_ram_at(const struct corral_ram *ram, uint64_t gpa, uint64_t len)
{
    uint8_t *host = corral_ram_look_at(ram, gpa, len);
    if (host && ram->touched)
        corral_ram_touch(ram, host - ram->host, len);
    return host;
}

#endif
