/* An IOAPIC of a VM whose local APICs alone are in the kernel (KVM_CAP_SPLIT_IRQCHIP): Intel 82093AA datasheet,
 * the registers as those of KVM's own.
 *
 * A pin that is not masked is a route of KVM, from the GSI of its number to the message that its entry says. So an
 * eventfd (KVM_IRQFD) and KVM_IRQ_LINE raise an interrupt as a pulse, without a look into here. A line that a
 * device holds up until it is served, as the serial port does, is told here: a level-triggered pin sends again
 * after an EOI.
 */
#ifndef CORRAL_IOAPIC_H
#define CORRAL_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

struct corral_vcpu;

/* --- for Python --- */

#define CORRAL_IOAPIC_PINS 24

struct corral_ioapic;

struct corral_ioapic_state {
    uint8_t select, id;
    /* A bit a pin: lines that are held up, and pins at which that is a request, by the polarity of their entry
     * when the line last changed. */
    uint32_t lines, requests;
    uint64_t pins[CORRAL_IOAPIC_PINS]; /* redirection entries */
};

/* All pins are masked. vm_fd < 0: no routes and no interrupts. NULL: no memory. */
struct corral_ioapic *corral_ioapic_create(int vm_fd);
void corral_ioapic_destroy(struct corral_ioapic *a);

/* A corral_register_op over the 256 bytes of registers. False: KVM did not take the routes, which
 * corral_ioapic_route tells. */
bool corral_ioapic_access(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value);

/* Gives KVM the routes again. 0 or -errno. */
int corral_ioapic_route(struct corral_ioapic *a);

/* A device raises or lowers its line; from any thread. 0, -EINVAL (no such pin) or -errno. */
int corral_ioapic_line(struct corral_ioapic *a, uint32_t pin, bool high);

void corral_ioapic_save(struct corral_ioapic *a, struct corral_ioapic_state *state);

/* While no vCPU runs. Sends nothing: what was sent is in the state of the local APICs. 0 or -errno. */
int corral_ioapic_restore(struct corral_ioapic *a, const struct corral_ioapic_state *state);

/* A finisher (vcpu.h) of KVM_EXIT_IOAPIC_EOI. */
int corral_finish_ioapic_eoi(struct corral_vcpu *v);

#endif
