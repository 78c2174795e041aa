/* Talks to a device that hands out tickets at 0xd1000000, as docs/research/devices.md builds it: sends the first four
 * tickets as letters, waits for the device's interrupt on line 5, says '!', and resets. */
#include "pvh.inc"

    .set TICKETS, 0xd1000000

_start:
    mov $0x80000, %esp
    mov $on_interrupt, %eax             /* a gate of vector 0x25 */
    mov %ax, interrupts + 8 * 0x25
    movl $0x8e00, interrupts + 8 * 0x25 + 4
    shr $16, %eax
    mov %ax, interrupts + 8 * 0x25 + 6
    mov %cs, %ax
    mov %ax, interrupts + 8 * 0x25 + 2
    lidt interrupts_pointer

    mov $0x11, %al                      /* 8259: edge, ICW4; vectors from 0x20; only line 5 */
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $~(1 << 5), %al
    out %al, $0x21

    mov $4, %ecx
    mov $COM1, %edx
1:  mov TICKETS, %eax
    add $'a', %eax
    out %al, %dx
    loop 1b

    movl $1, TICKETS + 4                /* ring */
    sti
2:  hlt
    jmp 2b

on_interrupt:
    putc '!'
    reset

    .data
interrupts_pointer:
    .word 8 * 0x26 - 1
    .long interrupts
    .bss
    .balign 8
interrupts:
    .skip 8 * 0x26
