/* INSTRUCTION, which finds 8 bits, has BEFORE of its bytes on one page and the others on the next. */
#include "long.inc"

_start:
    mov $0xff, %ebx
    jmp 1f
    .org 0x1000 - BEFORE
1:  INSTRUCTION
    cmp $8, %eax
    jne 2f
    good
2:  bad

mask:
    .long 0xff
