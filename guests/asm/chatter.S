/* Sends x on COM1 without end, as fast as it can, and never looks whether there is room. */
#include "pvh.inc"

_start:
    mov $COM1, %edx
    mov $'x', %al
1:  out %al, %dx
    jmp 1b
