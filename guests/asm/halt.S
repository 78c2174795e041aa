/* Says that it runs, then halts with interrupts off, forever. */
#include "pvh.inc"

_start:
    putc 'r'
    cli
1:  hlt
    jmp 1b
