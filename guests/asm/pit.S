/* The timer as a BIOS leaves it, for a kernel that never writes a control word: a dot for each of three interrupts
 * through the 8259, then status 33. With COUNT it loads that before each, low byte first; without it waits for the
 * 18.2 ticks a second that are there. */
#include "long.inc"

_start:
    mov $stack, %esp
    interrupts 0, on_tick
    mov $3, %ebx
1:
#ifdef COUNT
    mov $(COUNT & 0xff), %al
    out %al, $0x40
    mov $(COUNT >> 8), %al
    out %al, $0x40
#endif
    sti
    hlt
    cli
    putc '.'
    dec %ebx
    jnz 1b
    good

on_tick:
    push %rax
    mov $0x20, %al
    out %al, $0x20
    pop %rax
    iretq

    interrupt_table
    .skip 256
stack:
