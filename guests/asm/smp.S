/* Starts CPUS - 1 other processors by INIT and SIPI, says so, and counts; each of them notes its ids and counts too.
 *
 * In memory at SHARED: how many have begun, how many have noted their ids, then two tables by the order in which they
 * began, the first processor's entry being number 0: counters of 32 bits, and ids of 32 bits, the one in leaf 1 of CPUID
 * and the one in leaf 0xb.
 */
#include "pvh.inc"

    .set APIC, 0xfee00000
    .set SPURIOUS, APIC + 0xf0
    .set COMMAND, APIC + 0x300
    .set TRAMPOLINE, 0x8000
    .set SHARED, 0x10000
    .set BEGUN, 0
    .set READY, 4
    .set COUNTERS, 0x100
    .set IDS, 0x400

_start:
    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $(trampoline_end - trampoline), %ecx
    cld
    rep movsb
    movl $0x1ff, SPURIOUS               /* the local APIC works */
    movl $0xc4500, COMMAND              /* INIT to all but this one */
    movl $0xc4600 + (TRAMPOLINE >> 12), COMMAND  /* SIPI likewise */
1:  pause
    cmpl $(CPUS - 1), SHARED + READY
    jne 1b
    putc 'u'
counting:
    incl SHARED + COUNTERS
    jmp counting

    .code16
trampoline:
    mov $(SHARED >> 4), %ax
    mov %ax, %ds
    mov $1, %esi
    lock xadd %esi, BEGUN
    inc %esi
    mov $1, %eax
    cpuid
    shr $24, %ebx
    mov %ebx, IDS(, %esi, 8)
    mov $0xb, %eax
    xor %ecx, %ecx
    cpuid
    mov %edx, IDS + 4(, %esi, 8)
    lock incl READY
1:  incl COUNTERS(, %esi, 4)
    jmp 1b
trampoline_end:
