/* INSTRUCTIONS at CPL 0 or, by an IRET, 3 (LEVEL) of 32-bit protected mode, from 0x201000 on; the vector that comes of
 * them and four words of its frame, in hexadecimal, then status 33. GATES is the type of all gates: 0xee or 0x8e. */
    .set COM1, 0x3f8
    .set TSS, 0x28

    .text
    .code32
    .globl _start
_start:
    mov $stack, %esp
    mov $task, %eax
    mov %ax, segments + TSS + 2
    shr $16, %eax
    mov %al, segments + TSS + 4
    movl $stack, task + 4
    movl $0x10, task + 8
    lgdt segments_pointer
    ljmp $8, $1f
1:  mov $0x10, %eax
    .irp segment, ds, es, ss
    mov %eax, %\segment
    .endr
    mov $TSS, %eax
    ltr %ax
    mov $idt, %edi
    mov $handlers, %eax
    mov $256, %ecx
2:  mov %ax, (%edi)
    movw $8, 2(%edi)
    movw $GATES << 8, 4(%edi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%edi)
    add $8, %edi
    add $16, %eax
    dec %ecx
    jnz 2b
    lidt idt_pointer
#if LEVEL
    push $0x23
    push $0x260000
    push $2
    push $0x1b
#else
    push $2
    push $8
#endif
    push $user
    iret

on_interrupt:
    mov $5, %ebp
1:  pop %ebx
    mov $COM1, %edx
    mov $8, %ecx
2:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    mov %cs:digits(%eax), %al
    out %al, %dx
    dec %ecx
    jnz 2b
    mov $' ', %al
    out %al, %dx
    dec %ebp
    jnz 1b
    mov $0x10, %al
    out %al, $0xf4

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
    push $vector
    jmp on_interrupt
    .balign 16
    .set vector, vector + 1
    .endr

    .balign 8
segments:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00cffa000000ffff, 0x00cff2000000ffff
    .quad 0x0000890000000067
segments_pointer:
    .word . - segments - 1
    .long segments
idt_pointer:
    .word 256 * 8 - 1
    .long idt
    .balign 4096
task:
    .skip 4096
idt:
    .skip 4096
    .skip 4096
stack:
