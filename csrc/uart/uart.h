/* A 16550A UART whose registers are finished in C (National Semiconductor PC16550D datasheet). */
#ifndef CORRAL_UART_H
#define CORRAL_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- for Python --- */

struct corral_uart;
struct corral_ioapic;

/* What a person may want to know of the port; all counts are bytes. */
struct corral_uart_stats {
    uint64_t sent, dropped, received, refused;
};

/* gsi is raised and lowered at ioapic, or where that is NULL on vm_fd with KVM_IRQ_LINE; vm_fd < 0: no interrupts.
 * NULL: no memory. */
struct corral_uart *corral_uart_create(int vm_fd, uint32_t gsi, struct corral_ioapic *ioapic);
void corral_uart_destroy(struct corral_uart *u);

/* An eventfd, readable when there is output to drain. Owned by the UART. */
int corral_uart_output_fd(const struct corral_uart *u);

/* Takes up to size bytes of what the guest sent; returns how many. One reader at a time. */
size_t corral_uart_drain(struct corral_uart *u, uint8_t *buffer, size_t size);

/* Offers input to the guest; returns how many bytes were taken: less than size where there is no room for more. */
size_t corral_uart_offer(struct corral_uart *u, const uint8_t *data, size_t size);

/* An eventfd, readable when there is room again for what the last offer could not take. Owned by the UART. */
int corral_uart_room_fd(const struct corral_uart *u);

/* The far end is gone, for good: the carrier (DCD) drops, and a driver that minds hangs up its terminal too. */
void corral_uart_hang_up(struct corral_uart *u);

void corral_uart_stats(struct corral_uart *u, struct corral_uart_stats *stats);

/* All that a driver can tell; what is on its way to or from the far end is not part of it. */
struct corral_uart_state {
    uint8_t ier, lcr, mcr, msr, scr, dll, dlm;
    uint8_t fifos, thre_pending, overrun, hung_up; /* 0 or 1 */
    uint8_t trigger;                               /* of the receive FIFO: 1, 4, 8 or 14 bytes */
    uint8_t polls, fifo_used;
    uint8_t fifo[16]; /* received and not read yet, oldest first */
};

void corral_uart_save(struct corral_uart *u, struct corral_uart_state *state);

/* Raises the interrupt line again where it was high. -EINVAL: a UART has no such state. */
int corral_uart_restore(struct corral_uart *u, const struct corral_uart_state *state);

/* A corral_register_op over the eight registers; device is the UART. */
bool corral_uart_pio(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value);

#endif
