/* A Multiboot kernel that has no GDT of its own: CS 8, and 0x10 in the others, as GRUB leaves them. Status 33, or 35. */
    .set FLAGS, 3

    .text
    .code32
    .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
    .globl _start
_start:
    mov $0x11, %bl
    mov %cs, %eax
    cmp $8, %eax
    jne 2f
    .irp segment, ds, es, fs, gs, ss
    mov %\segment, %eax
    cmp $0x10, %eax
    jne 2f
    mov %eax, %\segment
    .endr
    ljmp $8, $1f
1:  mov $0x10, %bl
2:  mov %bl, %al
    out %al, $0xf4
