/* The first sector of a disk, as a PC's BIOS starts it: asks the BIOS for the second sector, prints the text in it by the
 * BIOS too, and resets. Link it for 0x7c00 as raw code. */
        .code16
        .globl _start
_start: xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $0x7c00, %sp
        mov $packet, %si
        mov $0x42, %ah                  /* extended read, from the drive in DL */
        int $0x13
        jc reset
        mov $TEXT, %si
print:  lodsb
        test %al, %al
        jz reset
        mov $0x0e, %ah                  /* teletype */
        mov $7, %bx
        int $0x10
        jmp print
reset:  mov $0xfe, %al                  /* the reset line of the keyboard controller */
        out %al, $0x64
        hlt

        .set TEXT, 0x8000
        .balign 4
packet: .byte 16, 0
        .word 1                         /* sectors */
        .word TEXT, 0
        .quad 1                         /* the first of them */

        .org 510
        .word 0xaa55
