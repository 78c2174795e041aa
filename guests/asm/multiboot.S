/* Says what a Multiboot loader gave it, on COM1: command line, loader, modules and their words, MiB of RAM. Then resets.

   VERSION is 1 or 2; with ADDRESSES the header says itself where all this belongs, for a file that is not ELF. Both
   versions say the same, as long as the tags of version 2 come in that order. */

    .set COM1, 0x3f8
    .set I8042, 0x64
    .set MAGIC_1, 0x1badb002
    .set MAGIC_2, 0xe85250d6

    .text
    .code32
begin:
    .align 8
header:
#if VERSION == 1
#ifdef ADDRESSES
    .set FLAGS, 1 << 16 | 3
#else
    .set FLAGS, 3                       /* modules on pages, a memory map */
#endif
    .long MAGIC_1, FLAGS, -(MAGIC_1 + FLAGS)
#ifdef ADDRESSES
    .long header, begin, 0, bss_end, _start
#endif
#else
    .long MAGIC_2, 0, header_end - header, -(MAGIC_2 + header_end - header)
#ifdef ADDRESSES
    .align 8
    .short 2, 0                         /* addresses */
    .long 24, header, begin, 0, bss_end
    .align 8
    .short 3, 0                         /* the entry */
    .long 12, _start
#endif
    .align 8
    .short 1, 0                         /* what is required: command line, modules, memory map */
    .long 20, 1, 3, 6
    .align 8
    .short 5, 1                         /* a frame buffer, if there is one */
    .long 20, 1024, 768, 32
    .align 8
    .short 0, 0
    .long 8
header_end:
#endif

    .globl _start
_start:
    mov $stack, %esp
    mov %ebx, %ebp
#if VERSION == 1
    cmp $0x2badb002, %eax
    jne reset
    mov 16(%ebp), %esi
    call line
    mov 64(%ebp), %esi
    call line
    mov 20(%ebp), %ecx
    mov 24(%ebp), %edi
1:  jecxz 2f
    mov (%edi), %esi
    mov 4(%edi), %edx
    call bytes
    mov 8(%edi), %esi
    call line
    add $16, %edi
    dec %ecx
    jmp 1b
2:  mov 48(%ebp), %esi
    mov 44(%ebp), %ebx
    add %esi, %ebx
    xor %edi, %edi
3:  cmp %ebx, %esi
    jae 5f
    cmpl $1, 20(%esi)
    jne 4f
    add 12(%esi), %edi
4:  add (%esi), %esi
    add $4, %esi
    jmp 3b
5:  call mebibytes
#else
    cmp $0x36d76289, %eax
    jne reset
    add $8, %ebp
1:  mov (%ebp), %eax
    test %eax, %eax
    jz reset
    cmp $1, %eax
    je 2f
    cmp $2, %eax
    je 2f
    cmp $3, %eax
    je 3f
    cmp $6, %eax
    jne 7f
    lea 16(%ebp), %esi
    mov 4(%ebp), %ebx
    add %ebp, %ebx
    xor %edi, %edi
4:  cmp %ebx, %esi
    jae 6f
    cmpl $1, 16(%esi)
    jne 5f
    add 8(%esi), %edi
5:  add 8(%ebp), %esi
    jmp 4b
6:  call mebibytes
    jmp 7f
2:  lea 8(%ebp), %esi
    call line
    jmp 7f
3:  mov 8(%ebp), %esi
    mov 12(%ebp), %edx
    call bytes
    lea 16(%ebp), %esi
    call line
7:  mov 4(%ebp), %eax
    add $7, %eax
    and $-8, %eax
    add %eax, %ebp
    jmp 1b
#endif

reset:
    mov $0xfe, %al
    out %al, $I8042
    hlt

line:                                   /* the string at ESI, and the end of the line */
    mov $COM1, %edx
1:  lodsb
    test %al, %al
    jz 2f
    out %al, %dx
    jmp 1b
2:  mov $'\n', %al
    out %al, %dx
    ret

bytes:                                  /* those from ESI to EDX, and a space */
    mov %edx, %ebx
    mov $COM1, %edx
1:  cmp %ebx, %esi
    jae 2f
    lodsb
    out %al, %dx
    jmp 1b
2:  mov $' ', %al
    out %al, %dx
    ret

mebibytes:                              /* EDI bytes, in hexadecimal; .bss is zero, or it says so */
    mov $COM1, %edx
    cmpl $0, zero
    jne reset
    shr $20, %edi
    mov $8, %ecx
1:  rol $4, %edi
    mov %edi, %eax
    and $15, %eax
    mov digits(%eax), %al
    out %al, %dx
    dec %ecx
    jnz 1b
    mov $'\n', %al
    out %al, %dx
    ret

digits:
    .ascii "0123456789abcdef"

    .bss
zero:
    .skip 4096
stack:
bss_end:
