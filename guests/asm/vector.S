/* AVX, x87, CRC32, an exception of SSE's and a software interrupt at CPL 0 of long mode; prints a result of each. */
#include "pvh.inc"

    .macro gate vector, handler
    mov $\handler, %eax
    mov $interrupts + 16 * \vector, %edi
    mov %ax, (%edi)
    movl $0x00008e00, 4(%edi)           /* present, interrupt gate */
    movw $8, 2(%edi)
    shr $16, %eax
    mov %ax, 6(%edi)
    .endm

_start:
    mov $stack_top, %esp
    movl $level3 + 3, level4            /* the first 2 MiB, where they are */
    movl $level2 + 3, level3
    movl $0x83, level2
    gate 6, on_invalid_opcode
    gate 19, on_simd_error
    gate 32, on_interrupt
    lidt interrupts_pointer
    mov $level4, %eax
    mov %eax, %cr3
    mov $0x40620, %eax                  /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx               /* EFER: LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000033, %eax               /* PG, NE, ET, MP, PE */
    mov %eax, %cr0
    lgdt segments_pointer
    ljmp $8, $long

    .code64
long:
    mov $16, %eax
    mov %eax, %ss                       /* IRETQ takes it from this table */
    xor %ecx, %ecx
    mov $7, %eax                        /* XCR0: x87, SSE, AVX */
    xor %edx, %edx
    xsetbv

    vmovdqu numbers(%rip), %ymm0
    vpaddd numbers + 32(%rip), %ymm0, %ymm0
    vextracti128 $1, %ymm0, %xmm1
    paddd %xmm1, %xmm0
    pshufd $0x4e, %xmm0, %xmm1
    paddd %xmm1, %xmm0
    pshufd $0xb1, %xmm0, %xmm1
    paddd %xmm1, %xmm0
    movd %xmm0, result(%rip)
    mov result(%rip), %ebx
    call print

    fninit
    fildl two(%rip)
    fsqrt
    fimull million(%rip)
    fistpl result(%rip)
    mov result(%rip), %ebx
    call print

    mov $-1, %ebx
    crc32l two(%rip), %ebx
    call print

    xor %ebx, %ebx
    ldmxcsr divide_by_zero(%rip)
    xorps %xmm1, %xmm1
    movss one(%rip), %xmm0
    divss %xmm1, %xmm0
after_simd_error:
    call print

    int $32
    call print
    mov $0xfe, %al
    out %al, $I8042
    hlt

/* QEMU 7.2 does not intercept XSETBV for a KVM in it: that KVM forgets XCR0 at the next exit. */
on_invalid_opcode:
    xor %ecx, %ecx
    mov $7, %eax
    xor %edx, %edx
    xsetbv
    iretq

on_simd_error:
    mov $19, %ebx
    lea after_simd_error(%rip), %rax
    mov %rax, (%rsp)
    iretq

on_interrupt:
    mov $32, %ebx
    iretq

/* EBX in hexadecimal, and a line's end. */
print:
    lea digits(%rip), %rsi
    mov $COM1, %edx
    mov $8, %ecx
1:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    mov (%rsi, %rax), %al
    out %al, %dx
    dec %ecx
    jnz 1b
    mov $'\n', %al
    out %al, %dx
    ret

    .data
    .balign 8
segments:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
segments_pointer:
    .word . - segments - 1
    .long segments
interrupts_pointer:
    .word 16 * 33 - 1
    .long interrupts, 0
digits:
    .ascii "0123456789abcdef"
numbers:
    .long 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
two:
    .long 2
million:
    .long 1000000
one:
    .float 1.0
divide_by_zero:
    .long 0x1f80 & ~0x200               /* not masked */
result:
    .long 0

    .bss
    .balign 4096
level4: .skip 4096
level3: .skip 4096
level2: .skip 4096
interrupts: .skip 4096
    .skip 4096
stack_top:
