/* A program with Linux's header that a BIOS hands over to: prints by INT 10h what it has got (its command line, its initrd)
 * and the text in its protected-mode half, and resets. Raw code. */
        .code16
        .globl _start
_start: .org 0x1f1
        .byte 1                         /* setup_sects */
        .org 0x1fe
        .word 0xaa55
        .byte 0xeb, main - 0x202        /* entered here, at CS:0 */
        .ascii "HdrS"
        .word 0x0206
        .long 0
        .word 0, 0
        .byte 0, 1                      /* type_of_loader; loadflags: loaded high */
        .word 0
        .long 0
initrd: .long 0, 0                      /* ramdisk_image, ramdisk_size */
        .long 0
        .word 0, 0
line:   .long 0                         /* cmd_line_ptr */
        .long 0xffffffff                /* initrd_addr_max */
        .long 0
        .byte 0, 0, 0, 0
        .long 255                       /* cmdline_size */

/* All segments but CS are those of _start. Text above 1 MiB is reached by INT 15h, AH 87h, as DOS programs do. */
main:   mov line, %eax
        mov line + 2, %ax
        shl $12, %ax                    /* to a segment: the address is below 1 MiB */
        mov %ax, %fs
        mov line, %si
1:      mov %fs:(%si), %al
        inc %si
        call put
        jnz 1b
        mov initrd, %eax
        test %eax, %eax
        jz 2f
        call high
2:      mov $0x100000, %eax
        call high
        mov $0xfe, %al                  /* the reset line of the keyboard controller */
        out %al, $0x64
        hlt

put:    test %al, %al                   /* ZF: the end of the text */
        jz 3f
        push %ax
        mov $0x0e, %ah                  /* teletype */
        mov $7, %bx
        int $0x10
        pop %ax
        test %al, %al
3:      ret

high:   mov %eax, from + 2              /* the text at EAX: 32 bytes of it to BUFFER */
        movb $0x93, from + 5
        shr $24, %eax
        mov %al, from + 7
        mov $table, %si
        mov $16, %cx                    /* words */
        mov $0x87, %ah
        int $0x15
        mov $BUFFER, %si
4:      lodsb
        call put
        jnz 4b
        ret

        .set BUFFER, 0x2000
        .balign 8
table:  .quad 0, 0                      /* the BIOS's */
from:   .word 0xffff, 0
        .byte 0, 0x93, 0, 0
to:     .word 0xffff, BUFFER
        .byte 1, 0x93, 0, 0             /* 0x10000: where the setup code is */
        .quad 0, 0

        .org 1024
        .ascii "the rest\r\n                    \0"
        .org 2048
