/* Takes the serial port's interrupt from a level-triggered pin of the IOAPIC, and serves the port only the third time:
 * the line is up until then, so each end of an interrupt (EOI) brings the next. A dot for each, then a reset. With EDGE
 * the pin is edge-triggered, and one comes. */
#include "pvh.inc"
    .set IOAPIC, 0xfec00000
    .set LAPIC, 0xfee00000
    .set VECTOR, 0x40
    .set PIN, 4
#ifdef EDGE
    .set TRIGGER, 0
    .set TIMES, 1
#else
    .set TRIGGER, 1 << 15
    .set TIMES, 3
#endif

    .macro ioapic register, value
    movl $\register, IOAPIC
    movl $(\value), IOAPIC + 0x10
    .endm

_start:
    mov $stack_top, %esp
    lgdt segments_pointer
    ljmp $8, $1f
1:  mov $16, %eax
    .irp segment, ds, es, ss
    mov %eax, %\segment
    .endr
    mov $on_interrupt, %eax
    mov %ax, gates + 8 * VECTOR
    shr $16, %eax
    mov %ax, gates + 8 * VECTOR + 6
    movw $8, gates + 8 * VECTOR + 2
    movw $0x8e00, gates + 8 * VECTOR + 4
    lidt gates_pointer
    mov $0xff, %al                      /* an 8259 has this line too */
    out %al, $0x21
    movl $0x1ff, LAPIC + 0xf0           /* on */
    ioapic 0x10+2*PIN+1, 0
    ioapic 0x10+2*PIN, TRIGGER+VECTOR
    xor %ebx, %ebx
    mov $COM1 + 1, %edx                 /* IER: the transmitter is empty, and says so at once */
    mov $2, %al
    out %al, %dx
2:  sti
    hlt
    cli
    cmp $TIMES, %ebx
    jb 2b
3:  putc '.'
    dec %ebx
    jnz 3b
    reset

on_interrupt:
    push %eax
    push %edx
    inc %ebx
    cmp $TIMES, %ebx
    jb 1f
    mov $COM1 + 1, %edx
    xor %eax, %eax
    out %al, %dx
1:  movl $0, LAPIC + 0xb0               /* EOI */
    pop %edx
    pop %eax
    iret

    .data
    .balign 8
segments:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
segments_pointer:
    .word . - segments - 1
    .long segments
gates_pointer:
    .word 8 * (VECTOR + 1) - 1
    .long gates

    .bss
    .balign 16
gates: .skip 8 * (VECTOR + 1)
    .skip 4096
stack_top:
