/* Any instruction on the real CPU, as it stands, from a state that is given: the reference for trampoline.c.
 *
 * It must end by going on to the next one. Its operand may be at any address that the registers give. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct state {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15; /* struct kvm_regs */
    uint64_t rip, rflags;
    uint32_t features, vector;
    uint64_t address;
    uint8_t unused[192 - 160];
    uint8_t xsave[4096];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct state, rflags) == 136 && offsetof(struct state, features) == 144, "");
_Static_assert(offsetof(struct state, xsave) == 192, "");

void native_enter(struct state *state, const void *code);
extern const char native_back[];
extern uint64_t saved_rsp __attribute__((visibility("hidden")));
static struct state *now;

__asm__(".text\n"
        ".globl native_enter\n"
        "native_enter:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, saved_rsp(%rip)\n"
        "mov %rdi, saved_state(%rip)\n"
        "mov %rsi, target(%rip)\n"
        "stmxcsr saved_mxcsr(%rip)\n"
        "fnstcw saved_fcw(%rip)\n"
        "xor %edx, %edx\n"
        "mov 144(%rdi), %eax\n"
        "xrstor64 192(%rdi)\n"
        "pushq 136(%rdi)\n popfq\n"
        "mov (%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n"
        "mov 32(%rdi), %rsi\n mov 56(%rdi), %rbp\n"
        "mov 64(%rdi), %r8\n mov 72(%rdi), %r9\n mov 80(%rdi), %r10\n mov 88(%rdi), %r11\n"
        "mov 96(%rdi), %r12\n mov 104(%rdi), %r13\n mov 112(%rdi), %r14\n mov 120(%rdi), %r15\n"
        "mov 40(%rdi), %rdi\n"
        "jmp *target(%rip)\n"
        ".globl native_back\n"
        "native_back:\n"
        "mov %rdi, saved_rdi(%rip)\n"
        "mov saved_state(%rip), %rdi\n"
        "mov %rax, (%rdi)\n mov %rbx, 8(%rdi)\n mov %rcx, 16(%rdi)\n mov %rdx, 24(%rdi)\n"
        "mov %rsi, 32(%rdi)\n mov %rbp, 56(%rdi)\n"
        "mov %r8, 64(%rdi)\n mov %r9, 72(%rdi)\n mov %r10, 80(%rdi)\n mov %r11, 88(%rdi)\n"
        "mov %r12, 96(%rdi)\n mov %r13, 104(%rdi)\n mov %r14, 112(%rdi)\n mov %r15, 120(%rdi)\n"
        "mov saved_rdi(%rip), %rax\n mov %rax, 40(%rdi)\n"
        "mov %rsp, 48(%rdi)\n mov saved_rsp(%rip), %rsp\n"
        "pushfq\n popq 136(%rdi)\n"
        "xor %edx, %edx\n"
        "mov 144(%rdi), %eax\n"
        "xsave64 192(%rdi)\n"
        "vzeroupper\n fninit\n"
        "ldmxcsr saved_mxcsr(%rip)\n"
        "fldcw saved_fcw(%rip)\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n"
        ".local saved_rsp, saved_state, target, saved_rdi, saved_mxcsr, saved_fcw\n"
        ".comm saved_rsp,8\n.comm saved_state,8\n.comm target,8\n.comm saved_rdi,8\n"
        ".comm saved_mxcsr,4\n.comm saved_fcw,4\n");

static void faulted(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    now->vector = registers[REG_TRAPNO];
    now->address = (uintptr_t)info->si_addr;
    registers[REG_RIP] = (greg_t)(uintptr_t)native_back;
}

/* Runs the code of `size` bytes at its place in `page`, which can be executed and written. */
void native_run(struct state *state, uint8_t *page, unsigned at, const uint8_t *code, unsigned size)
{
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_NODEFER}, before[4];
    const uint8_t leave[6] = {0xff, 0x25}; /* jmp *(%rip) */
    uintptr_t back = (uintptr_t)native_back;
    memcpy(page + at, code, size);
    memcpy(page + at + size, leave, sizeof leave);
    memcpy(page + at + size + sizeof leave, &back, sizeof back);
    now = state;
    state->vector = 0;
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &action, &before[i]);
    native_enter(state, page + at);
    state->rsp -= saved_rsp; /* how far the instruction has moved it */
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &before[i], NULL);
}

/* One page to execute; two for data, with one on each side that cannot be reached. */
void *native_pages(void)
{
    uint8_t *pages = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_NONE);
    mprotect(pages + 4 * 4096, 4096, PROT_NONE);
    return pages;
}
