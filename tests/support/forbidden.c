/* A program that tries what a kernel must keep it from: it prints an attempt and its outcome a line, "NAME signal N",
 * "NAME exit N" (0: it was let), and at the end "over". What each must be is in tests/kvm/test_isolation.py.
 *
 * Every attempt is a child's. The last line of a kernel that one of them has harmed is not "over". */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define KERNEL_TEXT 0xffffffff81000000ul
#define DIRECT_MAP 0xffff888000000000ul
#define ENTRY_AREA 0xfffffe0000000000ul
#define VMALLOC 0xffffc90000000000ul
#define VMEMMAP 0xffffea0000000000ul
#define FIXMAP 0xffffffffff5fb000ul
#define STRANGE_VECTORS "\x20\x30\x40\x81\xec\xfb\xff"

static const char *attempt_name;

static void attempt(const char *name, void (*work)(uint64_t), uint64_t argument)
{
    int status = 0;
    attempt_name = name;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(5);
        work(argument);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s signal %d\n", name, WTERMSIG(status));
    else
        printf("%s exit %d\n", name, WEXITSTATUS(status));
}

/* --- memory of the kernel's --- */

static void read_it(uint64_t address)
{
    (void)*(volatile char *)address;
}

static void write_it(uint64_t address)
{
    *(volatile char *)address = 1;
}

static void run_it(uint64_t address)
{
    ((void (*)(void))address)();
}

/* By the kernel's hand: it must refuse the address. */
static void read_into(uint64_t address)
{
    int ends[2];
    if (pipe(ends) || write(ends[1], "x", 1) != 1)
        _exit(9);
    _exit(read(ends[0], (void *)address, 1) == 1 ? 0 : 1);
}

static void memory(void)
{
    static const struct {
        const char *name;
        uint64_t address;
    } places[] = {{"text", KERNEL_TEXT},   {"direct-map", DIRECT_MAP + 0x1000000}, {"entry-area", ENTRY_AREA},
                  {"tss", ENTRY_AREA + 0x3000}, {"vmalloc", VMALLOC},                {"vmemmap", VMEMMAP},
                  {"fixmap", FIXMAP}};
    char name[64];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(name, sizeof name, "read-%s", places[i].name);
        attempt(name, read_it, places[i].address);
        snprintf(name, sizeof name, "write-%s", places[i].name);
        attempt(name, write_it, places[i].address);
        snprintf(name, sizeof name, "run-%s", places[i].name);
        attempt(name, run_it, places[i].address);
        snprintf(name, sizeof name, "syscall-into-%s", places[i].name);
        attempt(name, read_into, places[i].address);
    }
    /* The shared pages: they are in the per-CPU area, somewhere in the direct map. Each 2 MB of the first 256. */
    for (uint64_t at = DIRECT_MAP; at < DIRECT_MAP + (256ul << 20); at += 2ul << 20) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            write_it(at);
            _exit(0);
        }
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) {
            printf("write-direct-map-%lx exit 0\n", at);
            break;
        }
    }
}

/* --- privileged instructions --- */

#define INSTRUCTION(name, code)                                                                                        \
    static void name(uint64_t unused)                                                                                  \
    {                                                                                                                  \
        (void)unused;                                                                                                  \
        static uint64_t room[64] __attribute__((unused));                                                              \
        __asm__ volatile(code : : "a"(7), "c"(0x4b564d10), "d"(0), "D"(room) : "memory", "rbx");                       \
    }
INSTRUCTION(do_cli, "cli")
INSTRUCTION(do_sti, "sti")
INSTRUCTION(do_hlt, "hlt")
INSTRUCTION(do_in, "mov $0x64, %%edx; in %%dx, %%al")
INSTRUCTION(do_out, "mov $0x64, %%edx; mov $0xfe, %%eax; out %%al, %%dx")
INSTRUCTION(do_out_immediate, "mov $0xfe, %%eax; out %%al, $0x64")
INSTRUCTION(do_outs, "mov $0x64, %%edx; mov %%rdi, %%rsi; outsb")
INSTRUCTION(do_switch_on, "wrmsr")
INSTRUCTION(do_switch_off, "xor %%eax, %%eax; wrmsr")
INSTRUCTION(do_rdmsr, "rdmsr")
INSTRUCTION(do_lstar, "mov $0xc0000082, %%ecx; wrmsr")
INSTRUCTION(do_read_cr0, "mov %%cr0, %%rax")
INSTRUCTION(do_read_cr3, "mov %%cr3, %%rax")
INSTRUCTION(do_write_cr3, "mov %%rdi, %%cr3")
INSTRUCTION(do_write_cr4, "mov %%rdi, %%cr4")
INSTRUCTION(do_read_dr7, "mov %%db7, %%rax")
INSTRUCTION(do_write_dr0, "mov %%rdi, %%db0")
INSTRUCTION(do_lgdt, "lgdt (%%rdi)")
INSTRUCTION(do_lidt, "lidt (%%rdi)")
INSTRUCTION(do_lldt, "lldt %%ax")
INSTRUCTION(do_ltr, "ltr %%ax")
INSTRUCTION(do_clts, "clts")
INSTRUCTION(do_invlpg, "invlpg (%%rdi)")
INSTRUCTION(do_wbinvd, "wbinvd")
INSTRUCTION(do_swapgs, "swapgs")
INSTRUCTION(do_sysret, "mov $0x400000, %%ecx; sysretq")
INSTRUCTION(do_int3, "int3")
INSTRUCTION(do_ud2, "ud2")
INSTRUCTION(do_kernel_segment, "mov $0x18, %%eax; mov %%eax, %%ss")
INSTRUCTION(do_iret_to_kernel, "push $0x18; push %%rdi; push $0x202; push $0x10; push $0x400000; iretq")

static void interrupt(uint64_t vector)
{
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code[0] = 0xcd;
    code[1] = vector;
    code[2] = 0xc3;
    ((void (*)(void))code)();
}

static void privileged(void)
{
#define TRY(name) attempt(#name, do_##name, 0)
    TRY(cli), TRY(sti), TRY(hlt), TRY(in), TRY(out), TRY(out_immediate), TRY(outs), TRY(switch_on), TRY(switch_off);
    TRY(rdmsr), TRY(lstar), TRY(read_cr0), TRY(read_cr3), TRY(write_cr3), TRY(write_cr4), TRY(read_dr7);
    TRY(write_dr0), TRY(lgdt), TRY(lidt), TRY(lldt), TRY(ltr), TRY(clts), TRY(invlpg), TRY(wbinvd), TRY(swapgs);
    TRY(sysret), TRY(int3), TRY(ud2), TRY(kernel_segment), TRY(iret_to_kernel);
    for (const char *vector = STRANGE_VECTORS; *vector; vector++) {
        char name[32];
        snprintf(name, sizeof name, "int-%02x", (unsigned char)*vector);
        attempt(name, interrupt, (unsigned char)*vector);
    }
}

/* --- returns of the kernel's to states of the program's making: sigreturn --- */

static volatile enum { BAD_RIP, BAD_CS, BAD_CS_COMPAT, BAD_SS, KERNEL_RIP, BAD_FLAGS } wanted;

static void twist(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    ucontext_t *at = context;
    greg_t *segments = &at->uc_mcontext.gregs[REG_CSGSFS];
    switch (wanted) {
    case BAD_RIP:
        at->uc_mcontext.gregs[REG_RIP] = 0x8000000000000000ul;
        break;
    case KERNEL_RIP:
        at->uc_mcontext.gregs[REG_RIP] = KERNEL_TEXT;
        break;
    case BAD_CS:
        *segments = (*segments & ~0xfffful) | 0x10;
        break;
    case BAD_CS_COMPAT:
        *segments = (*segments & ~0xfffful) | 0x23;
        break;
    case BAD_SS:
        *segments = (*segments & ~0xffff000000000000ul) | 0x18ul << 48;
        break;
    case BAD_FLAGS:
        at->uc_mcontext.gregs[REG_EFL] |= 3 << 12 | 1 << 14; /* IOPL 3, NT */
        break;
    }
}

static void return_to(uint64_t how)
{
    struct sigaction action = {.sa_sigaction = twist, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    wanted = how;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    /* Back with flags that must not have come along. */
    uint64_t flags;
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    _exit(flags >> 12 & 3 ? 0 : 1);
}

/* --- GS and flags of the program's making at entries of the kernel --- */

static void entries(uint64_t gs)
{
    /* arch_prctl refuses a kernel's base; WRGSBASE does not. */
    __asm__ volatile("wrgsbase %0" : : "r"(gs));
    for (int i = 0; i < 1000; i++)
        syscall(SYS_getppid);
    volatile char *page = mmap(NULL, 64 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 64; i++)
        page[i << 12] = 1; /* page faults */
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do /* interrupts */
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000l + now.tv_nsec - start.tv_nsec < 50000000);
    uint64_t kept;
    __asm__ volatile("rdgsbase %0" : "=r"(kept));
    _exit(kept == gs ? 0 : kept == 0 ? 1 : 2);
}

static void no_gs_instructions(int number)
{
    (void)number;
    _exit(0); /* not on this kernel: nothing to try */
}

static void gs_is(uint64_t gs)
{
    signal(SIGILL, no_gs_instructions);
    entries(gs);
}

static void steps(int number)
{
    (void)number;
}

/* Single steps through a system call: the trap must come in the program, never in the kernel's entry. */
static void step_a_syscall(uint64_t unused)
{
    (void)unused;
    signal(SIGTRAP, steps);
    __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; mov $110, %%eax; syscall; nop;"
                     "pushfq; andl $~0x100, (%%rsp); popfq"
                     :
                     :
                     : "rax", "rcx", "r11", "memory");
    _exit(0);
}

/* NT, AC and DF set at a system call. */
static void flags_at_a_syscall(uint64_t unused)
{
    (void)unused;
    __asm__ volatile("pushfq; orl $0x44400, (%%rsp); popfq; mov $110, %%eax; syscall;"
                     "pushfq; andl $~0x44400, (%%rsp); popfq"
                     :
                     :
                     : "rax", "rcx", "r11", "memory");
    _exit(0);
}

static void a_stack_of_the_kernels(uint64_t unused)
{
    (void)unused;
    __asm__ volatile("mov %0, %%rsp; mov $110, %%eax; syscall; ud2" : : "r"(DIRECT_MAP + 0x1000000) : "memory");
}

int main(void)
{
    memory();
    privileged();
    attempt("return-to-a-bad-rip", return_to, BAD_RIP);
    attempt("return-to-the-kernel", return_to, KERNEL_RIP);
    attempt("return-with-its-cs", return_to, BAD_CS);
    attempt("return-to-32-bit-code", return_to, BAD_CS_COMPAT);
    attempt("return-with-its-ss", return_to, BAD_SS);
    attempt("return-with-iopl", return_to, BAD_FLAGS);
    attempt("gs-of-the-kernel", gs_is, DIRECT_MAP + (112ul << 20));
    attempt("gs-of-nothing", gs_is, 0xffffffffdead0000ul);
    attempt("gs-of-zero", gs_is, 0);
    attempt("gs-of-its-own", gs_is, (uint64_t)&attempt_name);
    attempt("step-a-syscall", step_a_syscall, 0);
    attempt("flags-at-a-syscall", flags_at_a_syscall, 0);
    attempt("stack-of-the-kernels", a_stack_of_the_kernels, 0);
    printf("over\n");
    return 0;
}
