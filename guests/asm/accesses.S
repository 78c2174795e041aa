/* Carries out the accesses that are listed from TABLE on, and resets. An access is four words: what, where, a value that
 * is written or comes to be the one that was read, and 0. What: 1 and 2 write and read a port's byte, 3 and 4 a word of
 * memory, 5 and 6 a byte of memory; 0 ends the list. */
#include "pvh.inc"

_start:
    mov $TABLE, %esi
1:  mov 4(%esi), %edx
    mov 8(%esi), %eax
    mov (%esi), %ecx
    add $16, %esi
    jecxz 9f
    dec %ecx
    jz 2f
    dec %ecx
    jz 3f
    dec %ecx
    jz 4f
    dec %ecx
    jz 5f
    dec %ecx
    jz 6f
    movzbl (%edx), %eax
    jmp 8f
2:  out %al, %dx
    jmp 1b
3:  xor %eax, %eax
    in %dx, %al
    jmp 8f
4:  mov %eax, (%edx)
    jmp 1b
5:  mov (%edx), %eax
    jmp 8f
6:  mov %al, (%edx)
    jmp 1b
8:  mov %eax, -8(%esi)
    jmp 1b
9:  reset
