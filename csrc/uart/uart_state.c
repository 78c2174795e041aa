/* What is kept of a UART when its guest is saved. */
#include "uart_device.h"
#include "uart_registers.h"

#include <errno.h>
#include <string.h>

void corral_uart_save(struct corral_uart *u, struct corral_uart_state *state)
{
    pthread_mutex_lock(&u->lock);
    *state = (struct corral_uart_state){
        .ier = u->ier,
        .lcr = u->lcr,
        .mcr = u->mcr,
        .msr = u->msr,
        .scr = u->scr,
        .dll = u->dll,
        .dlm = u->dlm,
        .fifos = u->fifos,
        /* The far end of a restored UART has room. */
        .thre_pending = u->thre_pending || u->waiting_for_room,
        .overrun = u->overrun,
        .hung_up = u->hung_up,
        .trigger = u->trigger,
        .polls = u->polls,
        .fifo_used = u->fifo.used,
    };
    for (size_t i = 0; i < u->fifo.used; i++)
        state->fifo[i] = u->fifo.data[(u->fifo.head + i) % u->fifo.size];
    pthread_mutex_unlock(&u->lock);
}

int corral_uart_restore(struct corral_uart *u, const struct corral_uart_state *state)
{
    static const uint8_t triggers[] = {1, 4, 8, 14};
    if (state->fifo_used > CORRAL_UART_FIFO || !memchr(triggers, state->trigger, sizeof triggers))
        return -EINVAL;
    pthread_mutex_lock(&u->lock);
    u->ier = state->ier & 0x0f;
    u->lcr = state->lcr;
    u->mcr = state->mcr & MCR_BITS;
    u->msr = state->msr;
    u->scr = state->scr;
    u->dll = state->dll;
    u->dlm = state->dlm;
    u->fifos = state->fifos;
    u->thre_pending = state->thre_pending;
    u->overrun = state->overrun;
    u->hung_up = state->hung_up;
    u->waiting_for_room = false;
    u->trigger = state->trigger;
    u->polls = state->polls;
    u->fifo.head = u->fifo.used = 0;
    u->looped = false;
    u->stats.received = state->fifo_used; /* by this UART, of which a reset of the FIFO takes them back */
    for (uint8_t i = 0; i < state->fifo_used; i++)
        corral_ring_put(&u->fifo, state->fifo[i]);
    u->line_high = false; /* KVM's IOAPIC does not tell the level of a line; ours knows what it has sent */
    corral_uart_update_line(u);
    pthread_mutex_unlock(&u->lock);
    return 0;
}
