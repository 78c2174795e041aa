/* Whether GS's base is a program's own: whatever sets it, over system calls, page faults and switches to another
 * program that has another. Prints what is wrong; ends with 0 if nothing is, 77 where there is no WRGSBASE. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 300
#define NOT_HERE 77

static uint64_t read_base(void)
{
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void write_base(uint64_t base)
{
    __asm__ volatile("wrgsbase %0" : : "r"(base) : "memory");
}

static int by_system_call(uint64_t base)
{
    return syscall(SYS_arch_prctl, ARCH_SET_GS, base);
}

static void require(const char *when, uint64_t wanted)
{
    uint64_t told = 0, is = read_base();
    if (syscall(SYS_arch_prctl, ARCH_GET_GS, &told) || told != wanted || is != wanted) {
        printf("%s: GS's base is %#lx, by the kernel %#lx, not %#lx\n", when, (long)is, (long)told, (long)wanted);
        exit(1);
    }
}

/* One of two programs that take turns on one CPU. */
static void take_turns(uint64_t base)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t own = base + 0x10 * (uint64_t)round;
        if (round % 2)
            write_base(own);
        else if (by_system_call(own))
            exit(1);
        for (int turn = 0; turn < 3; turn++) {
            sched_yield();
            require("after another program", own);
        }
        volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *page = 1;
        require("after a page fault", own);
        munmap((void *)page, 4096);
    }
}

static sigjmp_buf without;

static void invalid(int signal)
{
    (void)signal;
    siglongjmp(without, 1);
}

int main(void)
{
    signal(SIGILL, invalid);
    if (sigsetjmp(without, 1))
        return NOT_HERE;
    require("at the start", 0);
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    write_base(0x1230);
    pid_t child = fork();
    require("after a fork", 0x1230);
    take_turns(child ? 0x10000 : 0x7fff00000000);
    if (!child)
        return 0;
    int status;
    waitpid(child, &status, 0);
    return status ? 1 : 0;
}
