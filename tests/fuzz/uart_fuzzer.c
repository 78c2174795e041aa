/* libFuzzer over csrc/uart/uart.c: a guest at the registers, a far end that sends, reads, hangs up and saves.
 *
 * An input is a list of steps, a byte each and what it wants behind it. A model beside the UART knows what was
 * sent: each byte that counts as sent is drained once, in order. */
#include "input.h"
#include "uart_device.h"
#include "uart_registers.h"

#include <string.h>

/* How many bytes of an input the guest sends without looking. */
#define FLOOD (CORRAL_UART_OUTPUT + 1000u)

static struct corral_uart *uart;
/* What the guest has sent, and what was not drained yet. */
static uint8_t sent[CORRAL_UART_OUTPUT + 1];
static size_t sent_head, sent_used;
/* What the eventfds say. Here they are no more than this: a system call costs more than all else. */
static bool output_told, room_told;

int __wrap_eventfd_write(int fd, uint64_t value);
int __wrap_eventfd_read(int fd, uint64_t *value);

int __wrap_eventfd_write(int fd, uint64_t value)
{
    require(value == 1 && (fd == uart->output_fd || fd == uart->room_fd));
    *(fd == uart->output_fd ? &output_told : &room_told) = true;
    return 0;
}

int __wrap_eventfd_read(int fd, uint64_t *value)
{
    require(fd == uart->output_fd || fd == uart->room_fd);
    bool *told = fd == uart->output_fd ? &output_told : &room_told;
    *value = *told;
    *told = false;
    return *value ? 0 : -1;
}

static void look(void)
{
    struct corral_uart *u = uart;
    require(u->fifo.used <= CORRAL_UART_FIFO && u->fifo.head < CORRAL_UART_FIFO);
    require(u->input.used <= CORRAL_UART_INPUT + CORRAL_UART_FIFO);
    require(u->output.used == sent_used && sent_used <= CORRAL_UART_OUTPUT);
    require(u->trigger == 1 || u->trigger == 4 || u->trigger == 8 || u->trigger == 14);
    require(!(u->ier & 0xf0) && !(u->mcr & ~MCR_BITS));
    require(!u->line_high);             /* there is no VM to raise it in */
    require(output_told || !sent_used); /* who waits for output does not sleep beside it */
}

static void out(uint16_t offset, uint8_t byte)
{
    bool goes = offset == RBR_THR && !(uart->lcr & LCR_DLAB) && !(uart->mcr & MCR_LOOP);
    uint64_t before = uart->stats.sent;
    uint32_t value = byte;
    require(corral_uart_pio(uart, true, offset, 1, &value));
    if (uart->stats.sent > before) {
        require(goes && uart->stats.sent == before + 1 && sent_used < sizeof sent);
        sent[(sent_head + sent_used++) % sizeof sent] = byte;
    }
}

static void in(uint16_t offset)
{
    uint32_t value = 0;
    require(corral_uart_pio(uart, false, offset, 4, &value));
    require(value >> 8 == 0xffffff);
}

static void drain(size_t size)
{
    uint8_t buffer[256];
    size_t taken = corral_uart_drain(uart, buffer, size);
    require(taken == (size < sent_used ? size : sent_used));
    for (size_t i = 0; i < taken; i++)
        require(buffer[i] == sent[(sent_head + i) % sizeof sent]);
    sent_head = (sent_head + taken) % sizeof sent;
    sent_used -= taken;
}

/* Takes back what was saved, or any other state. */
static void restore(const uint8_t *data, size_t size)
{
    struct corral_uart_state state, again;
    corral_uart_save(uart, &state);
    memcpy(&state, data, size < sizeof state ? size : sizeof state);
    bool possible = state.fifo_used <= CORRAL_UART_FIFO &&
                    (state.trigger == 1 || state.trigger == 4 || state.trigger == 8 || state.trigger == 14);
    require((corral_uart_restore(uart, &state) == 0) == possible);
    corral_uart_save(uart, &again);
    require(!possible || (again.fifo_used == state.fifo_used && !memcmp(again.fifo, state.fifo, state.fifo_used)));
}

/* As it is when it is made. To make one takes five system calls. */
static void renew(void)
{
    struct corral_uart *u = uart;
    u->ier = u->lcr = u->mcr = u->scr = u->dlm = u->polls = 0;
    u->fifos = u->thre_pending = u->overrun = u->waiting_for_room = u->hung_up = u->looped = u->input_left = false;
    u->trigger = u->dll = 1;
    u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    u->fifo.head = u->fifo.used = u->input.head = u->input.used = u->output.head = u->output.used = 0;
    memset(&u->stats, 0, sizeof u->stats);
    sent_head = sent_used = 0;
    output_told = room_told = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!uart)
        uart = corral_uart_create(-1, 4, NULL);
    require(uart);
    renew();
    unsigned flood = 0;
    for (size_t at = 0; at + 1 < size;) {
        uint8_t step = data[at++], argument = data[at++];
        size_t left = size - at;
        switch (step >> 5) {
        case 0:
        case 1:
        case 2:
            out(step & 7, argument);
            break;
        case 3:
            in(step & 7);
            break;
        case 4: { /* the far end sends, a little or much */
            static const uint8_t much[2048];
            size_t length = step & 1 ? argument * 8u : argument < left ? argument : left;
            size_t taken = corral_uart_offer(uart, step & 1 ? much : data + at, length);
            require(taken <= length);
            at += step & 1 ? 0 : length;
            break;
        }
        case 5:
            drain(argument);
            break;
        case 6: /* the guest sends without looking, seldom more than there is room for */
            for (unsigned i = 0; i < (step == 0xdf ? 2048u * argument : argument) && flood < FLOOD; i++, flood++)
                out(RBR_THR, i);
            break;
        case 7:
            if (step & 1) {
                corral_uart_hang_up(uart);
            } else {
                size_t length = left < sizeof(struct corral_uart_state) ? left : sizeof(struct corral_uart_state);
                restore(data + at, step & 2 ? length : 0);
                at += step & 2 ? length : 0;
            }
        }
        look();
    }
    return 0;
}
