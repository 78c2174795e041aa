/* Writes to MARK, COUNT times to PORT, to MARK again, and resets: what lies between the marks can be timed. */
#include "pvh.inc"

_start:
    mov $'x', %al
    mov $MARK, %edx
    out %al, %dx
    mov $COUNT, %ecx
    mov $PORT, %edx
1:  out %al, %dx
    dec %ecx
    jnz 1b
    mov $MARK, %edx
    out %al, %dx
    reset
