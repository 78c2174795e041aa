/* Writes COUNT times to PORT, one byte each, and resets. */
#include "pvh.inc"

_start:
    mov $COUNT, %ecx
    mov $PORT, %edx
    mov $'x', %al
1:  out %al, %dx
    dec %ecx
    jnz 1b
    reset
