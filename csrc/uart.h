/* A 16550A UART whose registers are finished in C (National Semiconductor PC16550D datasheet). */
#ifndef CORRAL_UART_H
#define CORRAL_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct corral_uart;

/* What a person may want to know of the port; all counts are bytes. */
struct corral_uart_stats {
    uint64_t sent, dropped, received, refused;
};

/* gsi is raised and lowered on vm_fd with KVM_IRQ_LINE; vm_fd < 0: no interrupts. NULL: no memory. */
struct corral_uart *corral_uart_create(int vm_fd, uint32_t gsi);
void corral_uart_destroy(struct corral_uart *u);

/* An eventfd, readable when there is output to drain. Owned by the UART. */
int corral_uart_output_fd(const struct corral_uart *u);

/* Takes up to size bytes of what the guest sent; returns how many. One reader at a time. */
size_t corral_uart_drain(struct corral_uart *u, uint8_t *buffer, size_t size);

/* Offers input to the guest; returns how many bytes were taken (less than size: offer the rest later). */
size_t corral_uart_offer(struct corral_uart *u, const uint8_t *data, size_t size);

/* The far end is gone, for good: the carrier (DCD) drops, and a driver that minds hangs up its terminal too. */
void corral_uart_hang_up(struct corral_uart *u);

void corral_uart_stats(struct corral_uart *u, struct corral_uart_stats *stats);

/* A corral_pio_op over the eight registers; device is the UART. */
bool corral_uart_pio(void *device, bool write, uint16_t offset, uint8_t size, uint32_t *value);

#endif
