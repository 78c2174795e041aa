/* Spends three quarters of its time in one function and one in another, until a byte comes; called through frames. */
#include "pvh.inc"

#ifndef COUNT
#define COUNT 2000
#endif

_start:
    mov $stack_top, %esp
    mov %esp, %ebp
    putc 'r'
again:
    call outer
    mov $COM1 + 5, %edx
    in %dx, %al
    test $1, %al
    jz again
    reset

outer:
    push %ebp
    mov %esp, %ebp
    mov $3 * COUNT, %ecx
    call busy
    mov $COUNT, %ecx
    call idle
    pop %ebp
    ret

busy:
1:  dec %ecx
    jnz 1b
    ret

idle:
1:  dec %ecx
    jnz 1b
    ret

    .bss
    .balign 16
    .skip 256
stack_top:
