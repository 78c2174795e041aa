/* Runs its kernel code natively where this KVM has that mode (docs/native.md), and does what a debugger may stumble over:
 * all kinds of jumps, an exception, a locked store, a breakpoint of its own, and the mode off and on again. */
#include "pvh.inc"

    .set NATIVE_PAGE, 0x4b564d10
    .set NATIVE_FLAGS, 7
    .set NATIVE_CS, 0x33                /* what CS and SS really are, natively */
    .set NATIVE_SS, 0x2b
    .set OPEN, 7                        /* a page-table entry: present, writable, for CPL 3 */
    .set LARGE, 0x80
    .set ALIAS, 0x80000000              /* the same memory again */

    .macro gate vector, handler
    mov $\handler, %eax
    mov $interrupts + 16 * \vector, %edi
    mov %ax, (%edi)
    movl $0x00008e00, 4(%edi)           /* present, interrupt gate */
    movw $0x10, 2(%edi)
    shr $16, %eax
    mov %ax, 6(%edi)
    .endm

    .macro native flags
    mov $NATIVE_PAGE, %ecx
    mov $\flags, %eax
    xor %edx, %edx
    wrmsr
    .endm

_start:
    mov $stack_top, %esp
    movl $level3 + OPEN, level4         /* the first 2 MiB, where they are */
    movl $level2 + OPEN, level3
    movl $level2 + OPEN, level3 + 8 * (ALIAS >> 30)
    movl $LARGE + OPEN, level2
    gate 3, on_breakpoint
    gate 14, on_page_fault
    lidt interrupts_pointer
    mov $level4, %eax
    mov %eax, %cr3
    mov $0x20, %eax                     /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx               /* EFER: LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000033, %eax               /* PG, NE, ET, MP, PE */
    mov %eax, %cr0
    lgdt segments_pointer
    ljmp $0x10, $interpreted

    .code64
interpreted:
    mov $0x18, %eax
    mov %eax, %ss
    native shared + NATIVE_FLAGS
natively:
    mov $5, %ebx
again:
    call work
    dec %ebx
    jnz again
    mov $0x40000000, %esi
    call ways
    mov $leaf + ALIAS, %eax
    call *%rax

    movb $1, shared(%rip)               /* the interrupt flag */
enabled:
    int3
own_breakpoint:
    native 0
off:
    native shared + NATIVE_FLAGS
on:
    mov $0xfe, %al
    out %al, $I8042
    hlt

work:
    nop
    mov %ebx, result(%rip)
    mov $0x80, %edx
    out %al, %dx
    inc %ecx
    ret

/* Each kind of way on, once. */
ways:
    push %rbx
    lea 1f(%rip), %rax
    jmp *%rax
    ud2
1:  cmp %eax, %eax
    jne 1b
    je 2f
    ud2
2:  mov $3, %ecx
3:  loop 3b
    mov $leaf, %eax
    mov %rax, pointer(%rip)
    call *pointer(%rip)
    mov $pointer, %eax
    mov $2, %ecx
    call *-16(%rax, %rcx, 8)
    lea result(%rip), %rdi
    mov $4, %ecx
    rep stosb
    lock incl result(%rip)
    mov %cr3, %rax
    mov %rax, %cr3
faulting:
    mov (%rsi), %al                     /* RSI is 1 GiB: nothing is there */
after_fault:
    pop %rbx
    ret

leaf:
    ret

on_breakpoint:
    incl breakpoints(%rip)
    jmp return

/* Goes on behind the instruction, which has two bytes. */
on_page_fault:
    add $8, %rsp
    addq $2, (%rsp)
return:
    movq $NATIVE_CS, 8(%rsp)
    movq $NATIVE_SS, 32(%rsp)
    iretq

    .data
    .balign 8
segments:
    .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
segments_pointer:
    .word . - segments - 1
    .long segments
interrupts_pointer:
    .word 16 * 15 - 1
    .long interrupts, 0
breakpoints:
    .long 0
pointer:
    .quad 0

    .bss
    .balign 4096
shared: .skip 4096                      /* with KVM */
result: .skip 4096                      /* in a page of its own */
    .balign 8192
level4: .skip 8192                      /* a pair: KVM takes the first one when an exception comes */
level3: .skip 4096
level2: .skip 4096
interrupts: .skip 4096
    .skip 4096
stack_top:
