/* Keeps the cursor of the text screen where small systems do, in the CRT controller: writes a letter where that says,
 * moves on, and waits for a retrace to begin and to end. Status 33. */
#include "long.inc"

    .macro crt register
    mov $0x3d4, %edx
    mov $\register, %al
    out %al, %dx
    inc %edx
    .endm

_start:
    mov $3, %ebp
1:  crt 14
    in %dx, %al
    movzbl %al, %ebx
    shl $8, %ebx
    crt 15
    in %dx, %al
    mov %al, %bl
    cmp $2000, %ebx
    jae 4f
    movw $0x0700 + 'c', 0xb8000(, %rbx, 2)
    inc %ebx
    mov $0x3d4, %edx
    mov %bh, %ah
    mov $14, %al
    out %ax, %dx                        /* index and data at once */
    mov %bl, %ah
    mov $15, %al
    out %ax, %dx
    dec %ebp
    jnz 1b
    mov $0x3da, %edx
2:  in %dx, %al
    test $8, %al
    jnz 2b
3:  in %dx, %al
    test $8, %al
    jz 3b
    good
4:  bad
