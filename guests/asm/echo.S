/* Sends back what it receives, by polling; q resets. */
#include "pvh.inc"

_start:
    putc '>'
1:  mov $COM1 + 5, %edx
2:  in %dx, %al
    test $1, %al
    jz 2b
    mov $COM1, %edx
    in %dx, %al
    out %al, %dx
    cmp $'q', %al
    jne 1b
    reset
