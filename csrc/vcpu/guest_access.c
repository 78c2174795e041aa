#include "guest_access.h"

#include <string.h>

#define PAGE 4096ULL
#define CR0_WP (1ULL << 16)
#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define CR4_LA57 (1ULL << 12)
#define CR4_SMEP (1ULL << 20)
#define CR4_SMAP (1ULL << 21)
#define EFER_LMA (1ULL << 10)
#define EFER_NXE (1ULL << 11)
#define RFLAGS_AC (1ULL << 18)
#define PTE_PRESENT 1ULL
#define PTE_WRITE 2ULL
#define PTE_USER 4ULL
#define PTE_ACCESSED 0x20ULL
#define PTE_DIRTY 0x40ULL
#define PTE_LARGE 0x80ULL
#define PTE_ADDRESS 0x000ffffffffff000ULL
#define PTE_NO_EXECUTE (1ULL << 63)

struct rights {
    bool user, write, fetch, write_protect, smap, smep, no_execute;
};

static struct rights rights_of(const struct kvm_sync_regs *s, bool write)
{
    return (struct rights){
        .user = s->sregs.cs.dpl == 3,
        .write = write,
        .write_protect = s->sregs.cr0 & CR0_WP,
        .smap = (s->sregs.cr4 & CR4_SMAP) && !(s->regs.rflags & RFLAGS_AC),
    };
}

/* The CPU's own accesses, to descriptor tables for one: a supervisor's at any level, and RFLAGS.AC does not count.
 */
static struct rights rights_of_cpu(const struct kvm_sync_regs *s)
{
    return (struct rights){.smap = s->sregs.cr4 & CR4_SMAP};
}

static struct rights rights_to_fetch(const struct kvm_sync_regs *s)
{
    return (struct rights){
        .user = s->sregs.cs.dpl == 3,
        .fetch = true,
        .smep = s->sregs.cr4 & CR4_SMEP,
        .no_execute = s->sregs.efer & EFER_NXE,
    };
}

/* `combined`: what all levels permit; a page may not be executed when one of them says so. */
static bool allowed(uint64_t combined, bool no_execute, struct rights r)
{
    bool user_page = combined & PTE_USER;
    if (r.user && !user_page)
        return false;
    if (!r.user && user_page && (r.smap || r.smep))
        return false;
    if (r.no_execute && no_execute)
        return false;
    return !r.write || (combined & PTE_WRITE) || (!r.user && !r.write_protect);
}

/* Walks the tables of the guest (SDM 3A, 4.5), and sets accessed and dirty as a CPU does when `mark`. Other vCPUs
 * may change the tables meanwhile: each entry is read once. */
static enum corral_access_result walk(const struct corral_ram *ram, const struct kvm_sregs *sregs,
                                      uint64_t address, struct rights r, bool mark, uint64_t *gpa,
                                      struct corral_page_fault *fault)
{
    if (!(sregs->cr0 & CR0_PG)) {
        *gpa = (uint32_t)address;
        return CORRAL_ACCESS_OK;
    }
    if (!(sregs->efer & EFER_LMA))
        return CORRAL_ACCESS_NOT_RAM;
    unsigned unused_bits = sregs->cr4 & CR4_LA57 ? 7 : 16;
    if ((uint64_t)((int64_t)(address << unused_bits) >> unused_bits) != address)
        return CORRAL_ACCESS_NOT_CANONICAL;

    bool tells_of_fetch = r.fetch && (r.smep || (r.no_execute && (sregs->cr4 & CR4_PAE)));
    *fault = (struct corral_page_fault){address, (r.write ? CORRAL_PF_WRITE : 0) | (r.user ? CORRAL_PF_USER : 0) |
                                                     (tells_of_fetch ? CORRAL_PF_FETCH : 0)};
    bool no_execute = false;
    uint64_t table = sregs->cr3 & PTE_ADDRESS, combined = PTE_WRITE | PTE_USER;
    for (int shift = sregs->cr4 & CR4_LA57 ? 48 : 39;; shift -= 9) {
        const uint64_t entry_at = table + (address >> shift & 511) * 8;
        uint64_t *slot = corral_ram_look_at(ram, entry_at, 8);
        if (!slot)
            return CORRAL_ACCESS_NOT_RAM;
        uint64_t entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
        if (!(entry & PTE_PRESENT))
            return CORRAL_ACCESS_FAULT;
        combined &= entry;
        no_execute |= entry & PTE_NO_EXECUTE;
        bool leaf = shift == 12 || ((entry & PTE_LARGE) && shift <= 30);
        if (leaf && !allowed(combined, no_execute, r)) {
            fault->error_code |= CORRAL_PF_PRESENT;
            return CORRAL_ACCESS_FAULT;
        }
        uint64_t marks = PTE_ACCESSED | (leaf && r.write ? PTE_DIRTY : 0);
        if (mark && (entry & marks) != marks)
            __atomic_fetch_or((uint64_t *)corral_ram_at(ram, entry_at, 8), marks, __ATOMIC_RELAXED);
        table = entry & PTE_ADDRESS;
        if (leaf) {
            uint64_t offset_mask = (1ULL << shift) - 1;
            *gpa = (table & ~offset_mask) | (address & offset_mask);
            return CORRAL_ACCESS_OK;
        }
    }
}

static void *host_address(struct corral_vcpu *v, uint64_t address, size_t size, struct rights r, bool mark,
                          enum corral_access_result *result, struct corral_page_fault *fault)
{
    uint64_t gpa;
    *result = walk(v->ram, &v->run->s.regs.sregs, address, r, mark, &gpa, fault);
    if (*result != CORRAL_ACCESS_OK)
        return NULL;
    void *host = r.write ? corral_ram_at(v->ram, gpa, size) : corral_ram_look_at(v->ram, gpa, size);
    if (!host)
        *result = CORRAL_ACCESS_NOT_RAM;
    return host;
}

void *corral_access_in_place(struct corral_vcpu *v, uint64_t address, size_t size, bool write,
                             enum corral_access_result *result, struct corral_page_fault *fault)
{
    return host_address(v, address, size, rights_of(&v->run->s.regs, write), true, result, fault);
}

/* The part of [address, address + size) that lies in the first page. */
static size_t part_of(uint64_t address, size_t size)
{
    size_t in_page = PAGE - address % PAGE;
    return in_page < size ? in_page : size;
}

enum corral_access_result corral_access_check(struct corral_vcpu *v, uint64_t address, size_t size, bool write,
                                              struct corral_page_fault *fault)
{
    enum corral_access_result result;
    for (size_t part; size; size -= part, address += part) {
        part = part_of(address, size);
        if (!host_address(v, address, part, rights_of(&v->run->s.regs, write), false, &result, fault))
            return result;
    }
    return CORRAL_ACCESS_OK;
}

enum corral_access_result corral_access(struct corral_vcpu *v, uint64_t address, void *buffer, size_t size,
                                        bool write, struct corral_page_fault *fault)
{
    /* Every page first, so that a fault on the last leaves the first as it was. */
    enum corral_access_result result = corral_access_check(v, address, size, write, fault);
    if (result != CORRAL_ACCESS_OK)
        return result;
    uint8_t *at = buffer;
    for (size_t part; size; size -= part, address += part, at += part) {
        part = part_of(address, size);
        uint8_t *host = corral_access_in_place(v, address, part, write, &result, fault);
        if (!host)
            return result;
        memcpy(write ? host : at, write ? at : host, part);
    }
    return CORRAL_ACCESS_OK;
}

bool corral_read_system(struct corral_vcpu *v, uint64_t address, void *buffer, size_t size)
{
    enum corral_access_result result;
    struct corral_page_fault fault;
    uint8_t *at = buffer;
    for (size_t part; size; size -= part, address += part, at += part) {
        part = part_of(address, size);
        const uint8_t *host =
            host_address(v, address, part, rights_of_cpu(&v->run->s.regs), true, &result, &fault);
        if (!host)
            return false;
        memcpy(at, host, part);
    }
    return true;
}

size_t corral_fetch(struct corral_vcpu *v, uint64_t address, uint8_t *bytes, size_t size,
                    enum corral_access_result *result, struct corral_page_fault *fault)
{
    const struct kvm_sync_regs *s = &v->run->s.regs;
    size_t done = 0;
    for (size_t part; done < size; done += part) {
        uint64_t at = s->sregs.cs.l ? address + done : (uint32_t)(address + done);
        part = part_of(at, size - done);
        const uint8_t *host = host_address(v, at, part, rights_to_fetch(s), true, result, fault);
        if (!host)
            break;
        memcpy(bytes + done, host, part);
    }
    return done;
}

size_t corral_peek(const struct corral_ram *ram, const struct kvm_sregs *sregs, uint64_t address, void *buffer,
                   size_t size)
{
    size_t done = 0;
    while (done < size) {
        struct corral_page_fault unused;
        uint64_t gpa;
        size_t part = part_of(address + done, size - done);
        if (walk(ram, sregs, address + done, (struct rights){0}, false, &gpa, &unused) != CORRAL_ACCESS_OK)
            break;
        const void *host = corral_ram_look_at(ram, gpa, part);
        if (!host)
            break;
        memcpy((uint8_t *)buffer + done, host, part);
        done += part;
    }
    return done;
}
