/* Inside of uart.h: the device. */
#ifndef CORRAL_UART_DEVICE_H
#define CORRAL_UART_DEVICE_H

#include "byte_ring.h"
#include "uart.h"

#include <pthread.h>

#define CORRAL_UART_FIFO 16
#define CORRAL_UART_OUTPUT (256 * 1024)
#define CORRAL_UART_INPUT (16 * 1024)

struct corral_uart {
    pthread_mutex_t lock; /* all below; under it the IOAPIC's is taken */
    int vm_fd, output_fd, room_fd;
    uint32_t gsi;
    struct corral_ioapic *ioapic; /* NULL: KVM has one */
    bool line_high;

    uint8_t ier, lcr, mcr, msr, scr, dll, dlm;
    bool fifos, thre_pending, overrun, waiting_for_room, hung_up;
    bool looped;     /* the FIFO has bytes that the guest has sent itself */
    bool input_left; /* the far end has more than there was room for */
    unsigned trigger, polls;

    uint8_t fifo_data[CORRAL_UART_FIFO], input_data[CORRAL_UART_INPUT + CORRAL_UART_FIFO],
        output_data[CORRAL_UART_OUTPUT];
    struct corral_ring fifo, input, output;
    struct corral_uart_stats stats;
};

/* The interrupt line follows the registers. Under the lock. */
void corral_uart_update_line(struct corral_uart *u);

#endif
