/* INSTRUCTION is none that a guest is told of: an invalid opcode, with the address of its first byte. Status 33. */
#include "long.inc"

_start:
    mov $stack, %esp
    gate 6, on_invalid_opcode
    lidt idt_pointer(%rip)
    xor %ecx, %ecx
here:
    INSTRUCTION
    bad

on_invalid_opcode:
    cmpq $here, (%rsp)
    jne 1f
    good
1:  bad

    interrupt_table
    .skip 256
stack:
