/* Programs counter 0 of the 8254 to rate generation with 0x2e9c, gates counter 2, and spins with interrupts off. */
#include "pvh.inc"

_start:
    mov $0x34, %al                      /* counter 0, both bytes, mode 2, binary */
    out %al, $0x43
    mov $0x9c, %al
    out %al, $0x40
    mov $0x2e, %al
    out %al, $0x40
    mov $1, %al
    out %al, $0x61
    putc 't'
    cli
1:  jmp 1b
