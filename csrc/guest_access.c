#include "guest_access.h"

#include <string.h>

#define PAGE 4096ULL
#define CR0_WP (1ULL << 16)
#define CR0_PG (1ULL << 31)
#define CR4_SMAP (1ULL << 21)
#define CR4_LA57 (1ULL << 12)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_AC (1ULL << 18)
#define PTE_PRESENT 1ULL
#define PTE_WRITE 2ULL
#define PTE_USER 4ULL
#define PTE_ACCESSED 0x20ULL
#define PTE_DIRTY 0x40ULL
#define PTE_LARGE 0x80ULL
#define PTE_ADDRESS 0x000ffffffffff000ULL

struct rights {
    bool user, write, write_protect, smap;
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

static bool allowed(uint64_t combined, struct rights r)
{
    bool user_page = combined & PTE_USER;
    if (r.user && !user_page)
        return false;
    if (!r.user && user_page && r.smap)
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

    *fault = (struct corral_page_fault){address, (r.write ? CORRAL_PF_WRITE : 0) | (r.user ? CORRAL_PF_USER : 0)};
    uint64_t table = sregs->cr3 & PTE_ADDRESS, combined = PTE_WRITE | PTE_USER;
    for (int shift = sregs->cr4 & CR4_LA57 ? 48 : 39;; shift -= 9) {
        uint64_t *slot = corral_ram_at(ram, table + (address >> shift & 511) * 8, 8);
        if (!slot)
            return CORRAL_ACCESS_NOT_RAM;
        uint64_t entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
        if (!(entry & PTE_PRESENT))
            return CORRAL_ACCESS_FAULT;
        combined &= entry;
        bool leaf = shift == 12 || ((entry & PTE_LARGE) && shift <= 30);
        if (leaf && !allowed(combined, r)) {
            fault->error_code |= CORRAL_PF_PRESENT;
            return CORRAL_ACCESS_FAULT;
        }
        uint64_t marks = PTE_ACCESSED | (leaf && r.write ? PTE_DIRTY : 0);
        if (mark && (entry & marks) != marks)
            __atomic_fetch_or(slot, marks, __ATOMIC_RELAXED);
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
    void *host = corral_ram_at(v->ram, gpa, size);
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
        const void *host = corral_ram_at(ram, gpa, part);
        if (!host)
            break;
        memcpy((uint8_t *)buffer + done, host, part);
        done += part;
    }
    return done;
}
