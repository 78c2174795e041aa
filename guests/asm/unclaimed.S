/* Reads a port and an address that nobody claims and sends what it got: ff ff ff ff (port), ff ff ff ff (MMIO). */
#include "pvh.inc"

_start:
    mov $0x80000, %esp
    mov $0x5670, %edx
    in %dx, %eax
    call send
    movl $0x12345678, 0xd0000000        /* ignored */
    mov 0xd0000000, %eax
    call send
    reset

send:                                   /* EAX, lowest byte first */
    mov $4, %ecx
    mov %eax, %ebx
    mov $COM1, %edx
1:  mov %bl, %al
    out %al, %dx
    shr $8, %ebx
    loop 1b
    ret
