/* From the PVH entry (32-bit protected mode, EBX = hvm_start_info) to drive() at CPL 3 of long mode.
 *
 * There a pagetable KVM runs the guest natively, as a hardware KVM does anywhere. The page tables are data, since
 * whatever runs before is interpreted. Ports are open by the TSS: a pagetable KVM loses IOPL on the way. Interrupts
 * stay off, and there is no IDT: no way leads back to CPL 0. */

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      /* name and descriptor sizes; XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad _start

    .set PRESENT, 1
    .set WRITABLE, 2
    .set USER, 4
    .set LARGE, 0x80
    .set CODE_0, 8
    .set DATA_3, 16 + 3
    .set CODE_3, 24 + 3
    .set TSS, 32

    .text
    .code32
    .globl _start
_start:
    mov $level4, %eax
    mov %eax, %cr3
    mov $0x20, %eax                     /* CR4: PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx               /* EFER: LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000031, %eax               /* CR0: PG, NE, ET, PE */
    mov %eax, %cr0
    lgdt segments_pointer
    ljmp $CODE_0, $long

    .code64
long:
    mov $stack_top, %esp
    mov %ebx, %edi                      /* drive's argument */
    mov $task, %eax
    mov %ax, segments + TSS + 2
    shr $16, %eax
    mov %al, segments + TSS + 4
    mov $TSS, %eax
    ltr %ax
    pushq $DATA_3
    pushq $stack_top - 8                /* as after a call (System V ABI, 3.2.2) */
    pushq $2
    pushq $CODE_3
    pushq $drive
    iretq

    .section .data
    .balign 4096
level4:
    .quad level3 + (PRESENT | WRITABLE | USER)
    .balign 4096
level3:                                 /* RAM at the bottom, and the last GiB below 4 GiB, where devices are */
    .quad ram + (PRESENT | WRITABLE | USER), 0, 0, devices + (PRESENT | WRITABLE | USER)
    .balign 4096
ram:
    .set address, 0
    .rept 16                            /* 32 MiB */
    .quad address + (PRESENT | WRITABLE | USER | LARGE)
    .set address, address + 0x200000
    .endr
    .balign 4096
devices:
    .set address, 0xc0000000
    .rept 512
    .quad address + (PRESENT | WRITABLE | USER | LARGE)
    .set address, address + 0x200000
    .endr

segments:
    .quad 0, 0x00af9b000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x0000890000000000 + task_end - task - 1, 0   /* its base is put in */
segments_pointer:
    .word . - segments - 1
    .long segments
task:                                   /* nothing of it counts but the map of permitted ports, 0 to 0x3ff */
    .skip 102
    .word 104
    .skip 128
    .byte 0xff
task_end:

    .bss
    .balign 16
    .skip 16384
stack_top:
