/* The option ROM by which a PC's BIOS hands over to a program with Linux's real-mode header (iPXE, memdisk). The BIOS
 * calls `boot` when it is this ROM's turn. A write to HANDOVER_PORT has Corral put the program into memory (boot/bios.py);
 * then it is entered as boot.rst says, "Running the Kernel".
 *
 * Whoever assembles this defines HANDOVER_PORT, SETUP_SEGMENT and STACK, and sets size and checksum (guests/bios.py). */
        .code16
        .globl _start
_start: .word 0xaa55
        .byte 0                         # blocks of 512 bytes
        lret                            # nothing to be initialised
        .org 0x1a
        .word expansion

        .balign 16
expansion:                              # Plug and Play BIOS Specification 1.0A, 3.2
        .ascii "$PnP"
        .byte 1, 2                      # revision, length in 16 bytes
        .word 0                         # no other header
        .byte 0, 0                      # reserved; the checksum, which BIOSes do not look at
        .long 0                         # device
        .word 0, name                   # manufacturer, product
        .byte 0, 0x80, 0                # type: other
        .byte 0
        .word 0, 0, boot                # connection vector, disconnect vector, bootstrap entry vector
        .word 0, 0
name:   .asciz "Corral"

boot:   cli
        mov $HANDOVER_PORT, %dx
        out %al, %dx
        mov $SETUP_SEGMENT, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %fs
        mov %ax, %gs
        mov %ax, %ss
        mov $STACK, %sp
        ljmp $SETUP_SEGMENT + 0x20, $0
