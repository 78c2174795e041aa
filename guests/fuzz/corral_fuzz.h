/* The convention between a target and `corral fuzz` (docs/fuzz.md): a few I/O ports and a shared area.
 *
 * A target puts a struct corral_fuzz anywhere in its memory, tells its address by two writes, and asks for input
 * by a third. That write returns with an input in the area: the first time Corral takes its checkpoint there. The
 * next such write says that this input is done with. A write of CORRAL_FUZZ_CRASH says that the input was a bug's.
 *
 * For assembler (.S) there are the numbers; for C the area and functions; with CORRAL_FUZZ_PROGRAM defined also
 * what a program on Linux needs: its permission for the ports, its memory locked, and handlers for its fatal
 * signals. With CORRAL_FUZZ_COVERAGE defined, in one file that is compiled without coverage itself, the functions
 * that compilers call for -fsanitize-coverage=trace-pc-guard (clang) and -fsanitize-coverage=trace-pc (gcc). */
#ifndef CORRAL_FUZZ_H
#define CORRAL_FUZZ_H

/* Ports for writes of 4 bytes: the lower and the upper half of the area's linear address, and a command. A read of
 * the last gives CORRAL_FUZZ_MAGIC where `corral fuzz` is there. */
#define CORRAL_FUZZ_LOW 0x5f0
#define CORRAL_FUZZ_HIGH 0x5f4
#define CORRAL_FUZZ_COMMAND 0x5f8

/* Commands. */
#define CORRAL_FUZZ_NEXT 1  /* done with the last input, and ready for the next */
#define CORRAL_FUZZ_CRASH 2 /* this input was a bug's: `reason` and what follows it say more */

#define CORRAL_FUZZ_MAGIC 0x7a75664c
#define CORRAL_FUZZ_FRAMES 16

#ifndef CORRAL_FUZZ_INPUT
#define CORRAL_FUZZ_INPUT 16384 /* bytes of input, a multiple of 4096, at most 1 MiB */
#endif
#ifndef CORRAL_FUZZ_MAP
#define CORRAL_FUZZ_MAP 65536 /* edges that can be counted, a multiple of 4096, at most 1 MiB */
#endif

#ifdef CORRAL_FUZZ_COVERAGE
#define CORRAL_FUZZ_HASHED 4096 /* a power of two: bytes of the map that gcc's edges are in */
#endif

#ifndef __ASSEMBLER__

#if defined(CORRAL_FUZZ_PROGRAM) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for the names of registers in a signal's context: include this file first */
#endif
#include <stdint.h>

/* Little-endian. `magic` to `edges` are the target's and are read once, at the checkpoint; `length` is Corral's;
 * `reason` to `stack` are the target's, and are read at CORRAL_FUZZ_CRASH. */
struct corral_fuzz {
    uint32_t magic;    /* CORRAL_FUZZ_MAGIC */
    uint32_t room;     /* CORRAL_FUZZ_INPUT */
    uint32_t map_size; /* CORRAL_FUZZ_MAP */
    uint32_t edges;    /* bytes of the map that are in use, 0: no coverage */
    uint32_t length;   /* of the input */
    uint32_t reason;   /* a signal's number, or what the target likes */
    uint64_t address;  /* what could not be accessed */
    uint64_t pc;       /* of the instruction */
    uint64_t base;     /* where a program is that was linked for 0; else 0 */
    uint32_t frames;   /* in `stack`: return addresses, the innermost first */
    uint32_t reserved;
    uint64_t stack[CORRAL_FUZZ_FRAMES];
    uint8_t rest[4096 - 56 - 8 * CORRAL_FUZZ_FRAMES];
    uint8_t input[CORRAL_FUZZ_INPUT];
    uint8_t map[CORRAL_FUZZ_MAP]; /* a byte counts how often an edge was taken */
} __attribute__((aligned(4096)));

extern struct corral_fuzz corral_fuzz;

static inline void corral_fuzz_write(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t corral_fuzz_read(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* Waits for an input, which is in corral_fuzz.input then; its length. Done with the one before. */
static inline uint32_t corral_fuzz_next(void)
{
    corral_fuzz_write(CORRAL_FUZZ_COMMAND, CORRAL_FUZZ_NEXT);
    return corral_fuzz.length;
}

/* This input was a bug's. Does not return. */
__attribute__((noreturn)) static inline void corral_fuzz_crash(uint32_t reason)
{
    corral_fuzz.reason = reason;
    for (;;)
        corral_fuzz_write(CORRAL_FUZZ_COMMAND, CORRAL_FUZZ_CRASH);
}

/* Tells where the area is. 0: `corral fuzz` is not there. */
static inline int corral_fuzz_begin(void)
{
    if (corral_fuzz_read(CORRAL_FUZZ_COMMAND) != CORRAL_FUZZ_MAGIC)
        return 0;
    corral_fuzz.room = CORRAL_FUZZ_INPUT;
    corral_fuzz.map_size = CORRAL_FUZZ_MAP;
    corral_fuzz.magic = CORRAL_FUZZ_MAGIC;
#ifdef CORRAL_FUZZ_HASHED
    if (!corral_fuzz.edges) /* no clang has counted them */
        corral_fuzz.edges = CORRAL_FUZZ_HASHED;
#endif
    corral_fuzz_write(CORRAL_FUZZ_LOW, (uint32_t)(uintptr_t)&corral_fuzz);
    corral_fuzz_write(CORRAL_FUZZ_HIGH, (uint32_t)((uint64_t)(uintptr_t)&corral_fuzz >> 32));
    return 1;
}

#ifdef CORRAL_FUZZ_COVERAGE

struct corral_fuzz corral_fuzz;

#define CORRAL_FUZZ_UNCOVERED __attribute__((no_instrument_function))

/* clang calls this before main() for each file, with a number for each of its edges. */
void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);
CORRAL_FUZZ_UNCOVERED void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop)
{
    if (start == stop || *start)
        return;
    for (; start < stop; start++) {
        if (corral_fuzz.edges < CORRAL_FUZZ_MAP)
            corral_fuzz.edges++;
        *start = corral_fuzz.edges; /* those that do not fit share the last byte */
    }
}

void __sanitizer_cov_trace_pc_guard(uint32_t *guard);
CORRAL_FUZZ_UNCOVERED void __sanitizer_cov_trace_pc_guard(uint32_t *guard)
{
    if (*guard)
        corral_fuzz.map[*guard - 1]++;
}

/* gcc calls this on each block: an edge is a hash of two addresses, in the first CORRAL_FUZZ_HASHED bytes. */
void __sanitizer_cov_trace_pc(void);
CORRAL_FUZZ_UNCOVERED void __sanitizer_cov_trace_pc(void)
{
    static uint32_t before;
    uint32_t here = (uint32_t)(uintptr_t)__builtin_return_address(0);
    here = (here >> 4 ^ here << 8) * 2654435761u >> 20;
    corral_fuzz.map[(here ^ before) & (CORRAL_FUZZ_HASHED - 1)]++;
    before = here >> 1;
}

#endif /* CORRAL_FUZZ_COVERAGE */

#ifdef CORRAL_FUZZ_PROGRAM

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <ucontext.h>

extern char __executable_start[]; /* the linker's */

static uint64_t corral_fuzz_top; /* of the stack: no frame is above it */

/* Tells the signal, where it came from, and who called there, as far as frame pointers lead. */
static void corral_fuzz_signal(int number, siginfo_t *about, void *context)
{
    const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t frame = (uint64_t)registers[REG_RBP], least = (uint64_t)registers[REG_RSP];
    corral_fuzz.address = (uint64_t)(uintptr_t)about->si_addr;
    corral_fuzz.pc = (uint64_t)registers[REG_RIP];
    corral_fuzz.frames = 0;
    while (corral_fuzz.frames < CORRAL_FUZZ_FRAMES && frame >= least && frame < corral_fuzz_top &&
           frame % 8 == 0) {
        const uint64_t *words = (const uint64_t *)(uintptr_t)frame;
        corral_fuzz.stack[corral_fuzz.frames++] = words[1];
        least = frame + 16;
        frame = words[0];
    }
    corral_fuzz_crash((uint32_t)number);
}

/* To be called once, at the beginning of main(). Ends the program where `corral fuzz` is not there. */
__attribute__((unused)) static void corral_fuzz_begin_program(void)
{
    static uint8_t stack[32768];
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = corral_fuzz_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    corral_fuzz_top = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 512;
    if (ioperm(CORRAL_FUZZ_LOW, 12, 1) != 0 || mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        perror("corral_fuzz: ioperm or mlockall");
        exit(3);
    }
    sigaltstack(&other, NULL);
    for (unsigned index = 0; index < sizeof signals / sizeof *signals; index++)
        sigaction(signals[index], &action, NULL);
    if (((const uint16_t *)(const void *)__executable_start)[8] == 3) /* ET_DYN: wherever the kernel has put it */
        corral_fuzz.base = (uint64_t)(uintptr_t)__executable_start;
    if (!corral_fuzz_begin()) {
        fputs("corral_fuzz: this is a target of `corral fuzz`, which is not there\n", stderr);
        exit(3);
    }
}

#endif /* CORRAL_FUZZ_PROGRAM */
#endif /* __ASSEMBLER__ */
#endif
