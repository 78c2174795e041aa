/* Says hello on COM1 and resets: the smallest guest that shows that it ran. */
#include "pvh.inc"

_start:
    mov $text, %esi
    mov $COM1, %edx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  reset

text:
    .asciz "hello\n"
