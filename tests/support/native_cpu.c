/* Instructions on the real CPU, for comparison with their completion in csrc/assist/assist.c. */
#include <stdint.h>
#include <string.h>

#define AREA __attribute__((aligned(64)))
#define SIZE 4096
#define WITHIN_SIZE 0x3ff /* components 0 (x87) to 9 (PKRU) */

uint64_t native_popcnt(uint64_t value, unsigned size, uint64_t *flags)
{
    uint64_t result = 0;
    if (size == 8)
        __asm__ volatile("popcnt %2, %0\n pushfq\n pop %1" : "=&r"(result), "=&r"(*flags) : "r"(value));
    else if (size == 4)
        __asm__ volatile("popcnt %k2, %k0\n pushfq\n pop %1" : "=&r"(result), "=&r"(*flags) : "r"(value));
    else
        __asm__ volatile("popcnt %w2, %w0\n pushfq\n pop %1" : "=&r"(result), "=&r"(*flags) : "r"(value), "0"(result));
    return result;
}

/* registers: RAX, RDX, RBX, RCX, in and out. Returns RFLAGS. */
uint64_t native_cmpxchg(void *memory, uint64_t registers[4], int wide)
{
    uint64_t flags;
    if (wide)
        __asm__ volatile("lock cmpxchg16b (%5)\n pushfq\n pop %0"
                         : "=&r"(flags), "+a"(registers[0]), "+d"(registers[1]), "+b"(registers[2]), "+c"(registers[3])
                         : "r"(memory)
                         : "memory", "cc");
    else
        __asm__ volatile("lock cmpxchg8b (%5)\n pushfq\n pop %0"
                         : "=&r"(flags), "+a"(registers[0]), "+d"(registers[1]), "+b"(registers[2]), "+c"(registers[3])
                         : "r"(memory)
                         : "memory", "cc");
    return flags;
}

/* The components that are enabled and lie within SIZE bytes: AMX's tiles do not, and nobody here has asked the host's
 * kernel for them. */
uint64_t native_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low | (uint64_t)high << 32) & WITHIN_SIZE;
}

#define XSTATE(operation, area, mask)                                                                                  \
    __asm__ volatile(operation " (%0)" : : "r"(area), "a"((uint32_t)(mask)), "d"((uint32_t)((mask) >> 32)) : "memory")

/* Loads `state` (standard format), saves `requested` of it over `area` by operation s(tandard), o(ptimised) or
 * c(ompacted); what this thread had before is kept. */
void native_xsave(const uint8_t *state, uint8_t *area, uint64_t requested, char operation)
{
    static AREA uint8_t before[SIZE], from[SIZE], to[SIZE];
    uint64_t all = native_xcr0();
    memcpy(from, state, SIZE);
    memcpy(to, area, SIZE);
    memset(before, 0, SIZE);
    XSTATE("xsave64", before, all);
    XSTATE("xrstor64", from, all);
    if (operation == 's')
        XSTATE("xsave64", to, requested);
    else if (operation == 'o')
        XSTATE("xsaveopt64", to, requested);
    else
        XSTATE("xsavec64", to, requested);
    XSTATE("xrstor64", before, all);
    memcpy(area, to, SIZE);
}

/* Loads `state`, restores `requested` from `area`, and leaves what the CPU then has in `state`, standard format. What
 * copies and clears memory uses vector registers, so it comes before and after. */
void native_xrstor(uint8_t *state, const uint8_t *area, uint64_t requested)
{
    static AREA uint8_t before[SIZE], from[SIZE], to[SIZE], after[SIZE];
    uint64_t all = native_xcr0();
    memcpy(from, state, SIZE);
    memcpy(to, area, SIZE);
    memset(before, 0, SIZE);
    memset(after, 0, SIZE);
    XSTATE("xsave64", before, all);
    XSTATE("xrstor64", from, all);
    XSTATE("xrstor64", to, requested);
    XSTATE("xsave64", after, all);
    XSTATE("xrstor64", before, all);
    memcpy(state, after, SIZE);
}
