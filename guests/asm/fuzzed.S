/* A kernel that `corral fuzz` runs, with a planted bug: an input that begins with "BUG" ends in a triple fault, one that
 * begins with "LO" never ends. It counts the edges itself. */
#include "pvh.inc"
#include "../fuzz/corral_fuzz.h"

    .set ROOM, 4096
    .set INPUT, area + 4096
    .set MAP, INPUT + ROOM

    .macro tell port, value
    mov $\value, %eax
    mov $\port, %edx
    out %eax, %dx
    .endm

    .macro edge number
    incb MAP + \number
    .endm

_start:
    mov $end_of_stack, %esp
    movl $CORRAL_FUZZ_MAGIC, area
    movl $ROOM, area + 4
    movl $4096, area + 8
    movl $8, area + 12
    tell CORRAL_FUZZ_LOW, area
    tell CORRAL_FUZZ_HIGH, 0
next:
    tell CORRAL_FUZZ_COMMAND, CORRAL_FUZZ_NEXT
    edge 0
    mov INPUT, %eax
    cmp $'B', %al
    je bug_1
    cmp $'L', %al
    jne next
    edge 1
    cmp $'O', %ah
    jne next
    edge 2
1:  jmp 1b
bug_1:
    edge 3
    cmp $'U', %ah
    jne next
    edge 4
    shr $16, %eax
    cmp $'G', %al
    jne next
    edge 5
    fault

    .bss
    .balign 4096
area:
    .skip 4096 + ROOM + 4096
    .skip 4096
end_of_stack:
