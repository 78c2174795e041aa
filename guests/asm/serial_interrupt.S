/* Echoes its input by the serial port's interrupt, with neither OUT2 nor RTS, as small systems do; ends at q. */
#include "long.inc"

_start:
    mov $stack, %esp
    interrupts 4, on_data
    mov $1, %al
    mov $COM1 + 1, %edx                 /* IER: data */
    out %al, %dx
1:  sti
    hlt
    jmp 1b

on_data:
    push %rax
    push %rdx
1:  mov $COM1 + 5, %edx                 /* LSR */
    in %dx, %al
    test $1, %al
    jz 2f
    mov $COM1, %edx
    in %dx, %al
    out %al, %dx
    cmp $'q', %al
    jne 1b
    good
2:  mov $0x20, %al
    out %al, $0x20
    pop %rdx
    pop %rax
    iretq

    interrupt_table
    .skip 256
stack:
