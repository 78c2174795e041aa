/* A Multiboot kernel with thread-local storage, as unikernels have it: PT_TLS is no sign of a program then. Status 33. */
    .set FLAGS, 3

    .text
    .code32
    .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
    .globl _start
    .type _start, @function
_start:
    mov $0x3f8, %edx
    mov $'t', %al
    out %al, %dx
    mov $0x10, %al
    out %al, $0xf4
1:  hlt
    jmp 1b

    .section .tbss, "awT", @nobits
    .globl x
x:  .skip 8
