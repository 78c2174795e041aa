/* What a program at CPL 3 with no system below it has: ports, registers in memory, a serial line, its command
 * line. */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A PVH boot loader's struct hvm_start_info, as far as it is of use here. */
struct start_info {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules, command_line, rsdp;
};

extern const char *command_line;

/* What follows the first word of `text` that begins with `prefix`, or NULL. */
const char *word(const char *text, const char *prefix);
/* A decimal or 0x number. */
uint64_t number(const char *text);
/* The number behind `prefix` on the command line, or `otherwise`. */
uint64_t option(const char *prefix, uint64_t otherwise);

void print(const char *text);
void print_number(uint64_t value);
/* Prints the reason as a line that begins with "wrong", and ends this guest. */
_Noreturn void fail(const char *why);
/* Waits for a byte on the serial line. */
void await_byte(void);
/* The end of this guest: a reset. */
_Noreturn void end(void);

static inline void out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t cycles(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

/* Device registers are 32 bits wide and are accessed by a plain MOV, which a VMM must be able to emulate. */
static inline uint32_t read_register(uintptr_t address)
{
    uint32_t value;
    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}

static inline void write_register(uintptr_t address, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

#endif
