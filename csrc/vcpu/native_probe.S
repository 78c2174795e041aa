/* A guest in 64-bit mode that tests native supervisor mode (docs/hosts.md), in the order of native_probe.h's checks.
 *
 * All of its memory is laid out beforehand, so that little is set up by instructions that KVM interprets. A check
 * reduces what it sees to one word, in RAX, and compares that with the table of expected ones. What enters the kernel
 * (a fault, an interrupt, SYSCALL) is an event: its handler describes it in RAX, empties the stack and jumps to where
 * R15 says. That is the end, where no event is due. So nothing nests and nothing returns, but what is there to test it.
 */
#include "native_probe.inc"

#define MSR_NATIVE_PAGE 0x4b564d10      /* the shared page's address, and flags; 0: off */
#define MSR_NATIVE_SIGNATURE 0x4b564d11
#define NATIVE_FLAGS 0x17               /* those that guests/linux/native uses */
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SFMASK 0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102
#define X2APIC_EOI 0x80b
#define X2APIC_SPURIOUS 0x80f
#define X2APIC_LVT_TIMER 0x832
#define X2APIC_TIMER_COUNT 0x838
#define X2APIC_TIMER_DIVIDE 0x83e
#define X2APIC_SELF_IPI 0x83f
#define APIC_ENABLED 0x1ff
#define DIVIDE_BY_1 0xb
#define TIMER_COUNT 20000               /* 20 us in KVM */
#define ATTEMPTS 8                      /* at the rate: something else may run in between */

    .macro check which
    movq $\which, number(%rip)
    lea failed(%rip), %r15
    xor %r14d, %r14d
    xor %r13d, %r13d
    .endm

    .macro verify which
    cmp expected + 8 * \which(%rip), %rax
    jne failed
    .endm

    .macro write_msr index, value
    mov $\index, %ecx
    mov $\value, %eax
    xor %edx, %edx
    wrmsr
    .endm

    /* User code's frame; `target` is an immediate or a register. */
    .macro enter_by_iretq target
    pushq $USER_SS
    pushq $USER_STACK
    pushq $RFLAGS_FIXED | RFLAGS_IF
    pushq $USER_CS
    pushq \target
    iretq
    .endm

    .macro enter_by_sysretq target
    mov \target, %ecx
    mov $RFLAGS_FIXED | RFLAGS_IF, %r11d
    mov $USER_STACK, %esp
    sysretq
    .endm

    /* Sets a bit of RAX where the flags meet the condition. Uses RBX. */
    .macro note condition, bit
    set\condition %bl
    movzbl %bl, %ebx
    imul $\bit, %ebx
    or %ebx, %eax
    .endm

    .org CODE
    lgdt gdt_pointer(%rip)
    lidt idt_pointer(%rip)
    mov $TSS_SELECTOR, %eax
    ltr %ax
    mov $KERNEL + STACK, %rsp
    mov $PGD, %r12d
    write_msr X2APIC_SPURIOUS, APIC_ENABLED
    write_msr MSR_SFMASK, RFLAGS_IF
    xor %eax, %eax
    mov $((USER_CS - 16) << 16) | KERNEL_CS, %edx
    mov $MSR_STAR, %ecx
    wrmsr
    lea on_syscall(%rip), %rax
    mov $KERNEL >> 32, %edx
    mov $MSR_LSTAR, %ecx
    wrmsr

    check CORRAL_PROBE_SIGNATURE
    mov $MSR_NATIVE_SIGNATURE, %ecx
    rdmsr
    shl $32, %rdx
    or %rdx, %rax
    verify CORRAL_PROBE_SIGNATURE

    check CORRAL_PROBE_SWITCH
    write_msr MSR_NATIVE_PAGE, SHARED | NATIVE_FLAGS
    mov %cs, %eax
    and $3, %eax
    verify CORRAL_PROBE_SWITCH

    check CORRAL_PROBE_RATE
    mov $ATTEMPTS, %ebx
1:  rdtsc
    mov %eax, %esi
    mov $LOOPS, %ecx
2:  dec %ecx
    jnz 2b
    rdtsc
    sub %esi, %eax
    cmp expected + 8 * CORRAL_PROBE_RATE(%rip), %rax
    jbe 3f
    dec %ebx
    jnz 1b
    jmp failed
3:

    check CORRAL_PROBE_GS_BASE
    lea number(%rip), %rcx
    rdgsbase %rbx
    wrgsbase %rcx
    rdgsbase %rbx
    mov %gs:0, %rax
    cmp %rcx, %rbx
    note e, GS_BASE_IS_SET
    verify CORRAL_PROBE_GS_BASE

    check CORRAL_PROBE_KERNEL_FAULT
    lea 2f(%rip), %r15
    lea 1f(%rip), %r14
    xor %r13d, %r13d                    /* nothing is there */
1:  mov (%r13), %rax
    jmp failed
2:  verify CORRAL_PROBE_KERNEL_FAULT

    check CORRAL_PROBE_KERNEL_IRETQ     /* with the selectors that the CPU has, so that KVM does not see it */
    movb $1, interrupt_flag(%rip)
    mov %ss, %eax
    push %rax
    push $KERNEL + STACK
    push $RFLAGS_FIXED
    mov %cs, %eax
    push %rax
    lea 1f(%rip), %rax
    push %rax
    iretq
1:  movzbl interrupt_flag(%rip), %eax
    verify CORRAL_PROBE_KERNEL_IRETQ

    check CORRAL_PROBE_HELD             /* by the flag alone: STI was the last instruction that KVM saw */
    sti
    movb $0, interrupt_flag(%rip)
    movb $0, interrupt_pending(%rip)
    write_msr X2APIC_SELF_IPI, VECTOR_IPI
    movzbl interrupt_pending(%rip), %eax
    verify CORRAL_PROBE_HELD

    check CORRAL_PROBE_DELIVERED
    lea 1f(%rip), %r15
    movb $1, interrupt_flag(%rip)
    sti
    nop
    jmp failed
1:  verify CORRAL_PROBE_DELIVERED

    check CORRAL_PROBE_TAKEN
    lea 1f(%rip), %r15
    movb $1, interrupt_flag(%rip)
    write_msr X2APIC_SELF_IPI, VECTOR_IPI
    jmp failed
1:  verify CORRAL_PROBE_TAKEN

    check CORRAL_PROBE_HALT
    lea 2f(%rip), %r15
    write_msr X2APIC_TIMER_DIVIDE, DIVIDE_BY_1
    write_msr X2APIC_LVT_TIMER, VECTOR_TIMER
    write_msr X2APIC_TIMER_COUNT, TIMER_COUNT
    movb $1, interrupt_flag(%rip)
    sti                                 /* the interrupt may be there already */
1:  hlt
    jmp 1b
2:  verify CORRAL_PROBE_HALT

    check CORRAL_PROBE_IRETQ
    lea 1f(%rip), %r15
    mov $CODE_AFTER_CALL, %r14d
    enter_by_iretq $CODE_CALL
1:  verify CORRAL_PROBE_IRETQ

    /* Of the kernel's half KVM may say that nothing is present there. */
    check CORRAL_PROBE_READ
    lea 1f(%rip), %r15
    mov $CODE_READ, %r14d
    lea number(%rip), %r13
    enter_by_iretq %r14
1:  or $EVENT(0, IS_PRESENT), %eax
    verify CORRAL_PROBE_READ

    check CORRAL_PROBE_SYSRETQ
    lea 1f(%rip), %r15
    mov $CODE_AFTER_CALL, %r14d
    enter_by_sysretq $CODE_CALL
1:  verify CORRAL_PROBE_SYSRETQ

    check CORRAL_PROBE_WRITE
    lea 1f(%rip), %r15
    mov $CODE_WRITE, %r14d
    lea interrupt_flag(%rip), %r13
    enter_by_sysretq %r14d
1:  or $EVENT(0, IS_PRESENT), %eax
    verify CORRAL_PROBE_WRITE

    check CORRAL_PROBE_FETCH
    lea 1f(%rip), %r15
    lea failed(%rip), %r14
    mov %r14, %r13
    enter_by_sysretq $CODE_JUMP
1:  or $EVENT(0, IS_PRESENT), %eax
    verify CORRAL_PROBE_FETCH

    check CORRAL_PROBE_PRIVILEGED
    lea 2f(%rip), %r15
    mov $CODE_PRIVILEGED, %r14d
1:  mov $MSR_NATIVE_PAGE, %ecx          /* for RDMSR and WRMSR, which would switch it off */
    xor %eax, %eax
    xor %edx, %edx
    enter_by_iretq %r14
2:  verify CORRAL_PROBE_PRIVILEGED
    add $16, %r14
    cmp $CODE_PRIVILEGED_END, %r14
    jb 1b

    check CORRAL_PROBE_FORGED_IRETQ
    lea 1f(%rip), %r15
    mov $CODE_IRETQ, %r14d
    enter_by_sysretq %r14d
1:  verify CORRAL_PROBE_FORGED_IRETQ

    check CORRAL_PROBE_USER_PAGE
    lea 1f(%rip), %r15
    mov $CODE_WRITE, %r14d
    mov $USER_DATA, %r13d
    movb $1, (%r13)
    andb $~BY_WRITE, user_data_entry(%rip)
    invlpg (%r13)
    enter_by_sysretq %r14d
1:  verify CORRAL_PROBE_USER_PAGE

    check CORRAL_PROBE_ADDRESS_SPACE
    lea 1f(%rip), %r15
    mov $CODE_CALL, %r14d
    mov %r14, %r13
    mov $OTHER_PGD, %r12d
    mov %r12, %cr3
    enter_by_sysretq %r14d
1:  mov $PGD, %r12d
    mov %r12, %cr3
    verify CORRAL_PROBE_ADDRESS_SPACE

    check CORRAL_PROBE_IRETQ_PENDING
    write_msr X2APIC_SELF_IPI, VECTOR_IPI
    lea 1f(%rip), %r15
    enter_by_iretq $CODE_SPIN
1:  verify CORRAL_PROBE_IRETQ_PENDING

    check CORRAL_PROBE_SYSRETQ_PENDING
    write_msr X2APIC_SELF_IPI, VECTOR_IPI
    lea 1f(%rip), %r15
    enter_by_sysretq $CODE_SPIN
1:  verify CORRAL_PROBE_SYSRETQ_PENDING

    check CORRAL_PROBE_GS_EXCHANGE
    write_msr MSR_KERNEL_GS_BASE, USER_GS
    lea 1f(%rip), %r15
    mov $OTHER_USER_GS, %r13d
    enter_by_sysretq $CODE_GS_BASE
1:  mov $MSR_KERNEL_GS_BASE, %ecx
    rdmsr
    cmp $USER_GS, %r10
    note e, USER_HAD_ITS_OWN
    rdgsbase %rcx
    lea number(%rip), %rdx
    cmp %rdx, %rcx
    note e, KERNEL_HAS_ITS_OWN
    verify CORRAL_PROBE_GS_EXCHANGE

    check CORRAL_PROBE_OFF
    write_msr MSR_NATIVE_PAGE, 0
    cli
    pushfq
    pop %rax
    and $RFLAGS_IF, %eax
    mov %cs, %ebx
    and $3, %ebx
    or %ebx, %eax
    verify CORRAL_PROBE_OFF

    movq $CORRAL_PROBE_PASSED, number(%rip)
failed:
    mov %rax, seen(%rip)
    out %al, $CORRAL_PROBE_PORT
1:  hlt
    jmp 1b

on_event:                               /* on the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS */
    pop %rax
    pop %rbx
    shl $8, %ebx
    or %ebx, %eax
    pop %rcx
    pop %rbx
    and $3, %ebx
    shl $24, %ebx
    or %ebx, %eax
    pop %r11
    jmp describe
on_syscall:
    mov $EVENT(VECTOR_SYSCALL, 0) | FROM_USER, %eax
describe:                               /* the word so far is in RAX, the event's RIP in RCX, its RFLAGS in R11 */
    mov $KERNEL + STACK, %rsp
    test $RFLAGS_IF, %r11d
    note nz, IF_WAS_SET
    cmpb $0, interrupt_flag(%rip)
    note ne, IF_IS_SET
    cmp %r14, %rcx
    note e, AT_RIP
    mov %cr3, %rbx
    cmp %r12, %rbx
    note e, OWN_CR3
    cmp $VECTOR_PF, %al
    jne 1f
    cmp page_fault_address(%rip), %r13
    note e, AT_CR2
    jmp *%r15
1:  cmp $VECTOR_IPI, %al
    je 2f
    cmp $VECTOR_TIMER, %al
    je 2f
    jmp *%r15
2:  mov %eax, %esi
    write_msr X2APIC_EOI, 0
    mov %esi, %eax
    jmp *%r15

    .org STUBS
    .set vector, 0
    .rept VECTORS
    .balign 16
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
    push $0                             /* those have an error code of their own */
    .endif
    push $vector
    jmp on_event
    .set vector, vector + 1
    .endr
    .org CORRAL_PROBE_SIZE

    .section .note.GNU-stack, "", @progbits
