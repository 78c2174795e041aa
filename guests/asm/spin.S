/* Says that it runs, then spins with interrupts off: nothing but a kick gets a vCPU out of it. */
#include "pvh.inc"

_start:
    putc 'r'
    cli
1:  jmp 1b
