/* 16550A: the guest's console. Output goes to a bounded ring that Python drains, input comes from a backlog.
 *
 * Back-pressure is the device's own: while the ring has no room for a full FIFO, THRE stays clear, and a driver
 * waits as it would for a slow line. A guest that writes all the same loses the byte, and it is counted. */
#include "ioapic.h"
#include "uart_device.h"
#include "uart_registers.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A guest that polls LSR this often and sends nothing between is waiting for input. */
#define POLLS_OF_A_READER 64

static bool has_room(const struct corral_uart *u)
{
    return u->output.size - u->output.used >= CORRAL_UART_FIFO;
}

static uint8_t pending(const struct corral_uart *u)
{
    if ((u->ier & IER_LINE) && u->overrun)
        return IIR_LINE;
    if ((u->ier & IER_DATA) && u->fifo.used)
        return !u->fifos || u->fifo.used >= u->trigger ? IIR_DATA : IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_MODEM) && (u->msr & 0x0f))
        return IIR_MODEM;
    return IIR_NONE;
}

void corral_uart_update_line(struct corral_uart *u)
{
    /* On a PC's board OUT2 gates it, but small systems never set that, and other VMMs do not ask for it. */
    bool high = pending(u) != IIR_NONE && !(u->mcr & MCR_LOOP);
    if (high == u->line_high || u->vm_fd < 0)
        return;
    struct kvm_irq_level level = {.irq = u->gsi, .level = high};
    if ((u->ioapic ? corral_ioapic_line(u->ioapic, u->gsi, high) : ioctl(u->vm_fd, KVM_IRQ_LINE, &level)) == 0)
        u->line_high = high;
}

/* The far end sends only to a guest that is ready: one that takes data interrupts (a driver's set-up, which reads
 * what is left, is over by then), or one that polls and polls. RTS, which small systems never raise, does not
 * count. */
static bool is_listening(const struct corral_uart *u)
{
    return (u->ier & IER_DATA) || u->polls >= POLLS_OF_A_READER;
}

static void refill(struct corral_uart *u)
{
    if (!is_listening(u) || (u->mcr & MCR_LOOP))
        return;
    size_t depth = u->fifos ? CORRAL_UART_FIFO : 1;
    for (; u->input.used && u->fifo.used < depth; u->stats.received++)
        corral_ring_put(&u->fifo, corral_ring_get(&u->input));
    if (u->input_left && u->input.used <= CORRAL_UART_INPUT / 2) { /* half of it: not a wake-up for each byte */
        u->input_left = false;
        eventfd_write(u->room_fd, 1);
    }
}

static void set_modem_lines(struct corral_uart *u, uint8_t lines)
{
    uint8_t changed = (u->msr ^ lines) & 0xf0;
    uint8_t delta = (changed >> 4) & (MSR_DELTA_CTS | MSR_DELTA_DSR | MSR_DELTA_DCD);
    if ((changed & MSR_RI) && !(lines & MSR_RI))
        delta |= MSR_RI_TRAIL;
    u->msr = lines | (u->msr & 0x0f) | delta;
}

static void update_modem_lines(struct corral_uart *u)
{
    uint8_t lines = MSR_CTS | MSR_DSR | (u->hung_up ? 0 : MSR_DCD);
    if (u->mcr & MCR_LOOP)
        lines = (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
    set_modem_lines(u, lines);
}

static void transmit(struct corral_uart *u, uint8_t byte)
{
    if (u->mcr & MCR_LOOP) {
        if (u->fifo.used < (size_t)(u->fifos ? CORRAL_UART_FIFO : 1))
            u->looped = corral_ring_put(&u->fifo, byte);
        else
            u->overrun = true;
    } else if (corral_ring_put(&u->output, byte)) {
        u->stats.sent++;
        if (u->output.used == 1) /* the reader empties the ring before it sleeps: one wake-up is enough */
            eventfd_write(u->output_fd, 1);
    } else {
        u->stats.dropped++;
    }
    u->thre_pending = has_room(u);
    u->waiting_for_room = !u->thre_pending;
}

static uint8_t read_iir(struct corral_uart *u)
{
    uint8_t reason = pending(u);
    if (reason == IIR_THRE)
        u->thre_pending = false;
    return reason | (u->fifos ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct corral_uart *u)
{
    if (u->polls < POLLS_OF_A_READER)
        u->polls++;
    refill(u);
    uint8_t lsr = (u->fifo.used ? LSR_DATA : 0) | (u->overrun ? LSR_OVERRUN : 0);
    if (has_room(u))
        lsr |= LSR_THRE | LSR_IDLE;
    u->overrun = false;
    return lsr;
}

static uint8_t register_read(struct corral_uart *u, uint16_t offset)
{
    bool dlab = u->lcr & LCR_DLAB;
    uint8_t value = 0xff;
    switch (offset) {
    case RBR_THR:
        value = dlab ? u->dll : u->fifo.used ? corral_ring_get(&u->fifo) : 0;
        u->looped &= u->fifo.used > 0;
        break;
    case IER:
        value = dlab ? u->dlm : u->ier;
        break;
    case IIR_FCR:
        value = read_iir(u);
        break;
    case LCR:
        value = u->lcr;
        break;
    case MCR:
        value = u->mcr;
        break;
    case LSR:
        value = read_lsr(u);
        break;
    case MSR:
        value = u->msr;
        u->msr &= 0xf0;
        break;
    case SCR:
        value = u->scr;
        break;
    }
    return value;
}

static void write_fcr(struct corral_uart *u, uint8_t value)
{
    static const uint8_t triggers[] = {1, 4, 8, 14};
    bool enable = value & FCR_ENABLE, clear = value & FCR_CLEAR_RX;
    /* A guest that listens and clears wants to be rid of what has come. Otherwise it comes once more: Linux's
     * driver switches the FIFOs on, which clears them, when it listens already. What it has sent itself does not.
     */
    bool again = !(u->mcr & MCR_LOOP) && !u->looped && !(clear && is_listening(u));
    if (clear || enable != u->fifos) {
        for (; again && u->fifo.used; u->stats.received--)
            corral_ring_put_back(&u->input, u->fifo.data[(u->fifo.head + --u->fifo.used) % u->fifo.size]);
        u->fifo.used = 0;
        u->looped = false;
    }
    u->fifos = enable;
    u->trigger = enable ? triggers[value >> 6] : 1;
}

static void register_write(struct corral_uart *u, uint16_t offset, uint8_t value)
{
    bool dlab = u->lcr & LCR_DLAB;
    u->polls = 0;
    switch (offset) {
    case RBR_THR:
        if (dlab)
            u->dll = value;
        else
            transmit(u, value);
        break;
    case IER:
        if (dlab) {
            u->dlm = value;
            break;
        }
        /* Enabling THRE while the holder is empty interrupts at once: Linux's driver starts to send by it. */
        if ((value & ~u->ier & IER_THRE) && has_room(u))
            u->thre_pending = true;
        u->ier = value & 0x0f;
        break;
    case IIR_FCR:
        write_fcr(u, value);
        break;
    case LCR:
        u->lcr = value;
        break;
    case MCR:
        u->mcr = value & MCR_BITS;
        update_modem_lines(u);
        break;
    case SCR:
        u->scr = value;
        break;
    }
}

bool corral_uart_pio(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value)
{
    struct corral_uart *u = device;
    pthread_mutex_lock(&u->lock);
    if (write) {
        register_write(u, offset, *value & 0xff);
    } else {
        /* The registers are a byte wide; the upper lanes of a wider read float. */
        *value = 0xffffff00u | register_read(u, offset);
    }
    refill(u);
    corral_uart_update_line(u);
    pthread_mutex_unlock(&u->lock);
    (void)size;
    return true;
}

size_t corral_uart_drain(struct corral_uart *u, uint8_t *buffer, size_t size)
{
    pthread_mutex_lock(&u->lock);
    size_t taken = 0;
    while (taken < size && u->output.used) {
        size_t run = u->output.size - u->output.head;
        run = run < u->output.used ? run : u->output.used;
        run = run < size - taken ? run : size - taken;
        memcpy(buffer + taken, u->output.data + u->output.head, run);
        u->output.head = (u->output.head + run) % u->output.size;
        u->output.used -= run;
        taken += run;
    }
    if (!u->output.used) {
        eventfd_t ignored;
        eventfd_read(u->output_fd, &ignored);
    }
    if (u->waiting_for_room && has_room(u)) {
        u->waiting_for_room = false;
        u->thre_pending = true;
        corral_uart_update_line(u);
    }
    pthread_mutex_unlock(&u->lock);
    return taken;
}

size_t corral_uart_offer(struct corral_uart *u, const uint8_t *data, size_t size)
{
    pthread_mutex_lock(&u->lock);
    size_t taken = 0;
    while (taken < size && u->input.used < CORRAL_UART_INPUT && corral_ring_put(&u->input, data[taken]))
        taken++;
    u->stats.refused += size - taken;
    eventfd_t ignored;
    eventfd_read(u->room_fd, &ignored);
    u->input_left = taken < size;
    refill(u);
    corral_uart_update_line(u);
    pthread_mutex_unlock(&u->lock);
    return taken;
}

void corral_uart_hang_up(struct corral_uart *u)
{
    pthread_mutex_lock(&u->lock);
    u->hung_up = true;
    update_modem_lines(u);
    corral_uart_update_line(u);
    pthread_mutex_unlock(&u->lock);
}

void corral_uart_stats(struct corral_uart *u, struct corral_uart_stats *stats)
{
    pthread_mutex_lock(&u->lock);
    *stats = u->stats;
    pthread_mutex_unlock(&u->lock);
}

int corral_uart_output_fd(const struct corral_uart *u)
{
    return u->output_fd;
}

int corral_uart_room_fd(const struct corral_uart *u)
{
    return u->room_fd;
}

struct corral_uart *corral_uart_create(int vm_fd, uint32_t gsi, struct corral_ioapic *ioapic)
{
    struct corral_uart *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->output_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->output_fd < 0 || u->room_fd < 0) {
        int error = errno;
        if (u->output_fd >= 0)
            close(u->output_fd);
        free(u);
        errno = error;
        return NULL;
    }
    pthread_mutex_init(&u->lock, NULL);
    u->vm_fd = vm_fd;
    u->gsi = gsi;
    u->ioapic = ioapic;
    u->trigger = 1;
    u->dll = 1; /* 115200 baud */
    u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    u->fifo = (struct corral_ring){u->fifo_data, CORRAL_UART_FIFO, 0, 0};
    u->input = (struct corral_ring){u->input_data, sizeof u->input_data, 0, 0};
    u->output = (struct corral_ring){u->output_data, CORRAL_UART_OUTPUT, 0, 0};
    return u;
}

void corral_uart_destroy(struct corral_uart *u)
{
    if (!u)
        return;
    close(u->output_fd);
    close(u->room_fd);
    pthread_mutex_destroy(&u->lock);
    free(u);
}
