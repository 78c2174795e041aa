#define _GNU_SOURCE
#include "mirror.h"

#include "ram_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PAGE CORRAL_RAM_PAGE
#define PAGES_AT_ONCE 512u

/* A page that KVM tells of once costs a fault and an entry of its tables each time it is told of anew, one that it
 * goes on to tell of a comparison: after so many in vain the former is less. */
#define IDLE_MOST 32u

/* Of an entry of /proc/PID/pagemap (the kernel's Documentation/admin-guide/mm/pagemap.rst). */
#define IN_MEMORY (1ULL << 63)
#define IN_SWAP (1ULL << 62)
#define OF_FILE (1ULL << 61)

/* Of an entry of a page table: present and accessed; and the address in it. */
#define USED 0x21ULL
#define ADDRESS 0x000ffffffffff000ULL

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

/* Whether each of `n` pages is the guest's own; all of them where the host does not tell. */
static void look_up(int pagemap, const uint8_t *at, unsigned n, uint64_t *entries)
{
    ssize_t wanted = n * sizeof *entries;
    if (pagemap < 0 || pread(pagemap, entries, wanted, (uintptr_t)at / PAGE * sizeof *entries) != wanted)
        for (unsigned i = 0; i < n; i++)
            entries[i] = IN_MEMORY;
}

int64_t corral_mirror_fill(const struct corral_mirror *m)
{
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entries[PAGES_AT_ONCE];
    int64_t copied = 0;
    for (uint64_t page = 0; page < m->pages;) {
        const uint64_t left = m->pages - page;
        const unsigned n = left < PAGES_AT_ONCE ? left : PAGES_AT_ONCE;
        look_up(pagemap, m->ram + page * PAGE, n, entries);
        for (unsigned i = 0; i < n; i++, page++) {
            const uint8_t *from = m->ram + page * PAGE;
            uint8_t *to = m->copy + page * PAGE;
            if (!(entries[i] & (IN_MEMORY | IN_SWAP)) || (entries[i] & OF_FILE))
                continue;
            if (is_zero(from) ? is_zero(to) : !memcmp(from, to, PAGE))
                continue;
            memcpy(to, from, PAGE);
            copied++;
        }
    }
    if (pagemap >= 0)
        close(pagemap);
    return copied;
}

/* For each page of a bitmap; `i` is its number. */
#define FOR_EACH(m, bits, i)                                                                                      \
    for (uint64_t word_ = 0; word_ < ((m)->pages + 63) / 64; word_++)                                             \
        for (uint64_t left_ = (bits)[word_], i; left_ && (i = word_ * 64 + __builtin_ctzll(left_), true);         \
             left_ &= left_ - 1)

uint64_t corral_mirror_changed(const struct corral_mirror *m, uint64_t *dirty)
{
    uint64_t changed = 0;
    FOR_EACH(m, dirty, i)
    {
        if (memcmp(m->ram + i * PAGE, m->copy + i * PAGE, PAGE))
            changed++;
        else
            dirty[i / 64] &= ~(1ULL << i % 64);
    }
    return changed;
}

void corral_mirror_advance(const struct corral_mirror *m, const uint64_t *dirty, uint32_t *pages,
                           uint8_t *contents)
{
    FOR_EACH(m, dirty, i)
    {
        uint8_t *copy = m->copy + i * PAGE;
        *pages++ = i;
        memcpy(contents, copy, PAGE);
        memcpy(copy, m->ram + i * PAGE, PAGE);
        contents += PAGE;
    }
}

void corral_mirror_exchange(const struct corral_mirror *m, uint64_t n, const uint32_t *pages, uint8_t *contents,
                            uint64_t *dirty)
{
    uint8_t kept[PAGE];
    for (uint64_t i = 0; i < n; i++, contents += PAGE) {
        uint8_t *copy = m->copy + (uint64_t)pages[i] * PAGE;
        memcpy(kept, copy, PAGE);
        memcpy(copy, contents, PAGE);
        memcpy(contents, kept, PAGE);
        dirty[pages[i] / 64] |= 1ULL << pages[i] % 64;
    }
}

/* Whether a page has lost what may be an entry of a page table (SDM 3A, 4.5): present and accessed, as all are
 * that a translation was made from, and of an address below `end`. */
static bool loses_entry(const uint64_t *now, const uint64_t *then, uint64_t end)
{
    for (unsigned i = 0; i < PAGE / sizeof *now; i++)
        if (now[i] != then[i] && (now[i] & USED) == USED && (now[i] & ADDRESS) < end)
            return true;
    return false;
}

uint64_t corral_mirror_reset(const struct corral_mirror *m, uint64_t *dirty, uint64_t end, bool *tables)
{
    *tables = false;
    uint64_t copied = 0;
    FOR_EACH(m, dirty, i)
    {
        uint8_t *ram = m->ram + i * PAGE;
        const uint8_t *copy = m->copy + i * PAGE;
        if (memcmp(ram, copy, PAGE)) {
            *tables = *tables || loses_entry((const void *)ram, (const void *)copy, end);
            memcpy(ram, copy, PAGE);
            m->idle[i] = 0;
            copied++;
        } else if (++m->idle[i] >= IDLE_MOST) {
            m->idle[i] = 0;
            continue;
        }
        dirty[i / 64] &= ~(1ULL << i % 64);
    }
    return copied;
}

void corral_mirror_add(uint64_t *bits, const uint64_t *others, uint64_t words)
{
    for (uint64_t i = 0; i < words; i++)
        bits[i] |= others[i];
}

void corral_ram_touched(const struct corral_ram *ram, uint64_t offset, uint64_t length)
{
    if (ram->touched)
        corral_ram_touch(ram, offset, length);
}
