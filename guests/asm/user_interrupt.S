/* INSTRUCTIONS at CPL 3 of long mode, from 0x201000 on, and what comes of them: the vector and four words of its frame,
 * in hexadecimal, then status 33. The first of those words is the error code where the vector has one.
 *
 * CODE_3 is the selector of their segment: 0x1b for 64-bit code, 0x3b for 32-bit code. GATES is the type of all gates:
 * 0xee for those that are open to CPL 3, 0x8e for others. The table is loaded before it is filled (EARLY); by an LIDT that
 * is not in the image (HIDDEN); handlers begin with CLAC (CLAC), or #UD and #DF have none (ABSENT). */
#include "long.inc"

    .set CODE_0, 8
    .set DATA_3, 0x23
    .set TSS, 0x28

    .macro load_table
#ifdef HIDDEN
    lea hidden(%rip), %rax
    notb 2(%rax)
    call hidden
#else
    lidt idt_pointer(%rip)
#endif
    .endm

_start:
    mov $stack, %esp
    lea level2(%rip), %rdi              /* the first GiB, open to users, in pages of 2 MiB */
    mov $0x87, %eax
    mov $512, %ecx
1:  mov %rax, (%rdi)
    add $0x200000, %rax
    add $8, %rdi
    dec %ecx
    jnz 1b
    movl $level2 + 7, level3
    movl $level3 + 7, level4
    mov $level4, %eax
    mov %rax, %cr3
    mov $task, %eax
    mov %ax, segments + TSS + 2
    shr $16, %eax
    mov %al, segments + TSS + 4
    movl $stack, task + 4
    lgdt segments_pointer(%rip)
    mov $TSS, %eax
    ltr %ax
#ifdef EARLY
    load_table
#endif
    mov $idt, %edi
    mov $handlers, %eax
    mov $256, %ecx
2:  mov %ax, (%rdi)
    movw $CODE_0, 2(%rdi)
    movw $GATES << 8, 4(%rdi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%rdi)
    add $16, %edi
    add $16, %eax
    dec %ecx
    jnz 2b
#ifdef ABSENT
    movw $0, idt + 6 * 16 + 4
    movw $0, idt + 8 * 16 + 4
#endif
#ifndef EARLY
    load_table
#endif
    push $DATA_3
    push $0x260000
    push $2
    push $CODE_3
    push $user
    iretq

hidden:
    .byte 0x0f, 0x01, ~0x1c             /* LIDT, with its last byte inverted */
    .byte 0x25
    .long idt_pointer
    ret

on_interrupt:
    mov $5, %ebp
1:  pop %rbx
    mov $COM1, %edx
    mov $8, %ecx
2:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    mov digits(%rax), %al
    out %al, %dx
    dec %ecx
    jnz 2b
    putc ' '
    dec %ebp
    jnz 1b
    good

digits:
    .ascii "0123456789abcdef"

    .org 0x1000
user:
    INSTRUCTIONS
    jmp .

    .balign 16
handlers:
    .set vector, 0
    .rept 256
#ifdef CLAC
    clac
#endif
    push $vector
    jmp on_interrupt
    .balign 16
    .set vector, vector + 1
    .endr

segments:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00affa000000ffff, 0x00cff2000000ffff
    .quad 0x0000890000000067, 0, 0x00cffa000000ffff
segments_pointer:
    .word . - segments - 1
    .quad segments
idt_pointer:
    .word 256 * 16 - 1
    .quad idt
    .balign 4096
task:
    .skip 4096
level4:
    .skip 4096
level3:
    .skip 4096
level2:
    .skip 4096
idt:
    .skip 4096
    .skip 4096
stack:
