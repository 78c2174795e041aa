/* Writes VALUE to PORT, a byte, a word or two words by WIDTH, as a test kernel does for QEMU's isa-debug-exit. */
#include "pvh.inc"

_start:
    mov $PORT, %edx
    mov $VALUE, %eax
#if WIDTH == 1
    out %al, %dx
#elif WIDTH == 2
    out %ax, %dx
#else
    out %eax, %dx
#endif
    putc '?'
    reset
