#define _GNU_SOURCE
#include "trampoline.h"

#include "xsave.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define VECTOR_PF 14

/* What the code refers to, in the page after it. */
struct frame {
    struct kvm_regs regs;
    uint64_t host_rsp;
    uint32_t features, host_mxcsr, host_fcw, unused;
    uint8_t initial[CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER] __attribute__((aligned(64)));
};

/* Neighbours, so that one reaches the other RIP-relative: the operand needs no register then. Around the window's
 * two pages is what cannot be reached, for operands of which a page is absent. */
struct pages {
    uint8_t code[PAGE];
    union {
        struct frame frame;
        uint8_t page[PAGE];
    };
    uint8_t xsave[PAGE];
    uint8_t before[PAGE];
    uint8_t window[2 * PAGE];
    uint8_t after[2 * PAGE];
};

struct corral_trampoline {
    struct pages *pages;
    uint8_t *writable_code; /* the same page again: no mapping can be written and executed */
    struct corral_cpu_fault fault;
    const uint8_t *operand;
};

/* The code, as it is copied to its page. The instruction comes into the slot, which no-operations fill. IRETQ is
 * there because it serializes: the slot was written through another mapping (SDM 3A, 8.1.3). RSP stays the host's:
 * a signal may arrive at any time. */
#define FRAME "corral_trampoline_code + 4096 + "
#define REGISTERS(do)                                                                                             \
    do                                                                                                            \
    ("rax", 0) do("rbx", 8) do("rcx", 16) do("rdx", 24) do("rsi", 32) do("rdi", 40) do("rbp", 56) do(             \
        "r8", 64) do("r9", 72) do("r10", 80) do("r11", 88) do("r12", 96) do("r13", 104) do("r14", 112) do("r15",  \
                                                                                                          120)
#define LOAD(name, offset) "mov " FRAME #offset "(%rip), %" name "\n"
#define SAVE(name, offset) "mov %" name ", " FRAME #offset "(%rip)\n"

__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        "corral_trampoline_code:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, " FRAME "144(%rip)\n"
        "xor %edx, %edx\n"
        "mov " FRAME "152(%rip), %eax\n"
        "test %eax, %eax\n"
        "jz 1f\n"
        "stmxcsr " FRAME "156(%rip)\n"
        "fnstcw " FRAME "160(%rip)\n"
        "xrstor64 " FRAME "4096(%rip)\n"
        "1: mov %ss, %eax\n push %rax\n"
        "pushq " FRAME "144(%rip)\n"
        "pushq " FRAME "136(%rip)\n"
        "mov %cs, %eax\n push %rax\n"
        "lea corral_trampoline_slot(%rip), %rax\n push %rax\n"
        /* clang-format off */
        REGISTERS(LOAD)
        "iretq\n"
        "corral_trampoline_slot:\n"
        ".fill 32, 1, 0x90\n"
        "corral_trampoline_back:\n"
        REGISTERS(SAVE)
        /* clang-format on */
        "mov " FRAME "144(%rip), %rsp\n"
        "pushfq\n"
        "popq " FRAME "136(%rip)\n"
        "cld\n"
        "xor %edx, %edx\n"
        "mov " FRAME "152(%rip), %eax\n"
        "test %eax, %eax\n"
        "jz 2f\n"
        "xsave64 " FRAME "4096(%rip)\n"
        "xrstor64 " FRAME "192(%rip)\n"
        "ldmxcsr " FRAME "156(%rip)\n"
        "fldcw " FRAME "160(%rip)\n"
        "2: pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "ret\n"
        "corral_trampoline_end:\n"
        ".popsection\n");

extern const uint8_t corral_trampoline_code[] __attribute__((visibility("hidden")));
extern const uint8_t corral_trampoline_slot[] __attribute__((visibility("hidden")));
extern const uint8_t corral_trampoline_back[] __attribute__((visibility("hidden")));
extern const uint8_t corral_trampoline_end[] __attribute__((visibility("hidden")));

#define SLOT_SIZE 32
#define SLOT (corral_trampoline_slot - corral_trampoline_code)
#define BACK (corral_trampoline_back - corral_trampoline_code)

_Static_assert(offsetof(struct kvm_regs, rflags) == 136, "the code's offset of RFLAGS");
_Static_assert(offsetof(struct kvm_regs, r15) == 120, "the code's offsets of general registers");
_Static_assert(offsetof(struct frame, host_rsp) == 144, "the code's offset of the stack pointer");
_Static_assert(offsetof(struct frame, features) == 152, "the code's offset of the features");
_Static_assert(offsetof(struct frame, host_mxcsr) == 156, "the code's offset of MXCSR");
_Static_assert(offsetof(struct frame, host_fcw) == 160, "the code's offset of the x87 control word");
_Static_assert(offsetof(struct frame, initial) == 192, "the code's offset of the initial state");
_Static_assert(offsetof(struct pages, xsave) == 2 * PAGE, "the code's offset of the guest's state");

/* Faults of the instruction arrive as signals. All others go on to whoever was there before. */

static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
#define N_SIGNALS (sizeof signals / sizeof *signals)
static struct sigaction previous[N_SIGNALS];
/* Initial-exec: a signal handler must not be the first to reach it, which would allocate. */
static __thread struct corral_trampoline *running __attribute__((tls_model("initial-exec")));

static void pass_on(int number, siginfo_t *info, void *context)
{
    for (unsigned n = 0; n < N_SIGNALS; n++) {
        if (signals[n] != number)
            continue;
        bool sent = info->si_code <= 0; /* by somebody, not by an instruction */
        if (previous[n].sa_flags & SA_SIGINFO) {
            previous[n].sa_sigaction(number, info, context);
        } else if (previous[n].sa_handler != SIG_DFL && previous[n].sa_handler != SIG_IGN) {
            previous[n].sa_handler(number);
        } else if (previous[n].sa_handler == SIG_DFL || !sent) {
            signal(number, SIG_DFL);
            if (sent)
                raise(number);
            /* else the instruction that faulted does so again, and ends the process where it is to blame */
        }
    }
}

static bool within(uintptr_t address, const void *begin, size_t size)
{
    return address - (uintptr_t)begin < size;
}

static void faulted(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t rip = registers[REG_RIP], address = (uintptr_t)info->si_addr;
    struct corral_trampoline *t = running;
    if (!t || info->si_code <= 0 || !within(rip, t->pages->code, BACK)) {
        pass_on(number, info, context);
        return;
    }
    bool in_slot = !within(rip, t->pages->code, SLOT);
    t->fault.vector = in_slot ? registers[REG_TRAPNO] : CORRAL_STATE_REFUSED;
    t->fault.absent =
        t->fault.vector == VECTOR_PF && (within(address, t->pages->before, sizeof t->pages->before) ||
                                         within(address, t->pages->after, sizeof t->pages->after));
    t->fault.offset = address - (uintptr_t)t->operand;
    registers[REG_RIP] = (uintptr_t)t->pages->code + BACK;
}

static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (unsigned n = 0; n < N_SIGNALS; n++) {
        sigaction(signals[n], NULL, &previous[n]); /* known before the first signal can arrive */
        sigaction(signals[n], &action, NULL);
    }
}

static bool map_code(struct corral_trampoline *t)
{
    int fd = memfd_create("corral-trampoline", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    bool mapped = false;
    if (ftruncate(fd, PAGE) == 0) {
        t->writable_code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        mapped = t->writable_code != MAP_FAILED &&
                 mmap(t->pages->code, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    }
    close(fd);
    return mapped;
}

struct corral_trampoline *corral_trampoline_create(void)
{
    static pthread_once_t caught = PTHREAD_ONCE_INIT;
    struct corral_trampoline *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->writable_code = MAP_FAILED;
    t->pages = mmap(NULL, sizeof *t->pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->pages == MAP_FAILED || mprotect(&t->pages->frame, 2 * PAGE, PROT_READ | PROT_WRITE) < 0 ||
        mprotect(t->pages->window, sizeof t->pages->window, PROT_READ | PROT_WRITE) < 0 || !map_code(t)) {
        corral_trampoline_destroy(t);
        return NULL;
    }
    memcpy(t->writable_code, corral_trampoline_code, corral_trampoline_end - corral_trampoline_code);
    memcpy(t->pages->frame.initial + 24, &(uint32_t){0x1f80}, 4); /* XRSTOR takes MXCSR from it */
    pthread_once(&caught, catch_faults);
    return t;
}

void corral_trampoline_destroy(struct corral_trampoline *t)
{
    if (!t)
        return;
    if (t->writable_code != MAP_FAILED)
        munmap(t->writable_code, PAGE);
    if (t->pages != MAP_FAILED)
        munmap(t->pages, sizeof *t->pages);
    free(t);
}

struct kvm_regs *corral_trampoline_regs(struct corral_trampoline *t)
{
    return &t->pages->frame.regs;
}

uint8_t *corral_trampoline_xsave(struct corral_trampoline *t)
{
    return t->pages->xsave;
}

uint8_t *corral_trampoline_window(struct corral_trampoline *t, uint64_t address, bool first, bool second)
{
    uint8_t *page = first ? t->pages->window + (second ? 0 : PAGE) : second ? t->pages->before : t->pages->after;
    return page + address % PAGE;
}

/* The instruction again, its memory operand at a fixed distance from RIP instead of where it was. */
static void write_slot(struct corral_trampoline *t, const struct corral_instruction *i, const uint8_t *operand)
{
    uint8_t bytes[SLOT_SIZE], *end = bytes;
    const uint8_t no_x_no_b = i->encoding == CORRAL_LEGACY ? (uint8_t)~3 : 0x60;

    if (i->encoding == CORRAL_LEGACY) {
        if (i->operand_size)
            *end++ = 0x66;
        if (i->prefix == CORRAL_F3 || i->prefix == CORRAL_F2)
            *end++ = i->prefix == CORRAL_F3 ? 0xf3 : 0xf2;
        if (i->rex)
            *end++ = i->is_memory ? i->rex & no_x_no_b : i->rex;
        if (i->opcode >> 8)
            *end++ = 0x0f;
        if (i->opcode >> 8 > 1)
            *end++ = i->opcode >> 8 == 2 ? 0x38 : 0x3a;
    } else {
        memcpy(end, i->head, i->head_size);
        if (i->is_memory && i->head_size > 2)
            end[1] |= no_x_no_b;
        end += i->head_size;
    }
    *end++ = i->opcode;
    uint8_t *displacement = NULL;
    if (!(i->form->flags & CORRAL_NO_MODRM)) {
        *end++ = i->is_memory ? (i->modrm & 0x38) | 5 : i->modrm;
        if (i->is_memory) {
            displacement = end;
            end += 4;
        }
    }
    if (corral_has_immediate(i))
        *end++ = i->immediate;
    if (displacement) {
        int32_t distance = operand - (t->pages->code + SLOT + (end - bytes));
        memcpy(displacement, &distance, 4);
    }
    memset(end, 0x90, bytes + SLOT_SIZE - end);
    memcpy(t->writable_code + SLOT, bytes, SLOT_SIZE);
}

/* An x87 instruction leaves in its state where it was, what it was and its operand's address: here, the slot's
 * (SDM 1, 8.1.8 and table 10-2). A guest shall find its own. */
static void own_x87_pointers(struct corral_trampoline *t, const struct corral_instruction *i)
{
    struct {
        uint16_t fop;
        uint64_t fip, fdp;
    } __attribute__((packed)) last;
    uint8_t *place = t->pages->xsave + 6;
    memcpy(&last, place, sizeof last);
    if (last.fip != (uintptr_t)t->pages->code + SLOT)
        return;
    last.fip = t->pages->frame.regs.rip;
    if (i->is_memory && last.fop)
        last.fop = (i->opcode & 7) << 8 | i->modrm;
    if (i->is_memory && last.fdp == (uintptr_t)t->operand)
        last.fdp = i->address;
    memcpy(place, &last, sizeof last);
}

bool corral_trampoline_run(struct corral_trampoline *t, const struct corral_instruction *i, uint8_t *operand,
                           uint32_t features, struct corral_cpu_fault *fault)
{
    const uint64_t arithmetic = 0x8d5; /* CF, PF, AF, ZF, SF, OF; all others stay the host's */
    uint64_t rflags = t->pages->frame.regs.rflags;
    write_slot(t, i, operand);
    t->fault = (struct corral_cpu_fault){0};
    t->operand = operand;
    t->pages->frame.features = features;
    t->pages->frame.regs.rflags = (rflags & arithmetic) | 0x202;
    running = t;
    ((void (*)(void))(uintptr_t)t->pages->code)();
    running = NULL;
    t->pages->frame.regs.rflags = (rflags & ~arithmetic) | (t->pages->frame.regs.rflags & arithmetic);
    if (features)
        own_x87_pointers(t, i);
    *fault = t->fault;
    return !fault->vector;
}
