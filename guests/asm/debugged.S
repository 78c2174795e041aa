/* Calls a function ROUNDS (five) times that stores a number and writes a port, and resets: something to stop and to
 * step. */
#include "pvh.inc"
#ifndef ROUNDS
#define ROUNDS 5
#endif

_start:
    mov $stack_top, %esp
    mov $ROUNDS, %ebx
again:
    call work
    dec %ebx
    jnz again
    reset

work:
    nop
    mov %ebx, result
    mov $0x80, %edx
    out %al, %dx
    inc %ecx
    ret

    .data
    .balign 8
result:
    .long 0

    .bss
    .balign 16
    .skip 256
stack_top:
