#include "port_control.h"

#include <linux/virtio_console.h>
#include <string.h>

/* What a port's driver is to be told, in this order. */
enum { DUE_ADD = 1, DUE_NAME = 2, DUE_OPEN = 4, DUE_CLOSE = 8, DUE_ALL = 15 };

_Static_assert(sizeof(struct virtio_console_control) == CORRAL_CONTROL_HEADER, "virtio 1.2, section 5.3.6.2");

void corral_control_init(struct corral_port_control *c, unsigned n, const char *const *names)
{
    *c = (struct corral_port_control){.n = n};
    for (unsigned i = 0; i < n; i++)
        c->names[i] = names[i];
}

void corral_control_save(const struct corral_port_control *c, unsigned port, struct corral_port_talk *talk)
{
    *talk = (struct corral_port_talk){.added = c->added[port],
                                      .ready = c->ready[port],
                                      .open = c->open[port],
                                      .ended = c->ended[port],
                                      .due = c->due[port]};
}

bool corral_control_restore(struct corral_port_control *c, unsigned port, const struct corral_port_talk *talk)
{
    if ((talk->added | talk->ready | talk->open | talk->ended) > 1 || talk->due > DUE_ALL)
        return false;
    c->added[port] = talk->added;
    c->ready[port] = talk->ready;
    c->open[port] = talk->open;
    c->ended[port] = talk->ended;
    c->due[port] = talk->due;
    return true;
}

static void add_port(struct corral_port_control *c, unsigned port)
{
    if (!c->added[port])
        c->due[port] |= DUE_ADD;
    c->added[port] = true;
}

static bool others_are_ready(const struct corral_port_control *c)
{
    for (unsigned i = 1; i < c->n; i++)
        if (!c->ready[i])
            return false;
    return true;
}

void corral_control_take(struct corral_port_control *c, const uint8_t *message, uint32_t size)
{
    struct virtio_console_control said;
    if (size < sizeof said)
        return;
    memcpy(&said, message, sizeof said);
    if (said.event == VIRTIO_CONSOLE_DEVICE_READY && said.value == 1) {
        for (unsigned i = 1; i < c->n; i++)
            add_port(c, i);
    } else if (said.id >= c->n) {
        return;
    } else if (said.event == VIRTIO_CONSOLE_PORT_READY && said.value == 1) {
        if (!c->ready[said.id])
            c->due[said.id] |= DUE_NAME | DUE_OPEN | (c->ended[said.id] ? DUE_CLOSE : 0);
        c->ready[said.id] = true;
    } else if (said.event == VIRTIO_CONSOLE_PORT_OPEN) {
        __atomic_store_n(&c->open[said.id], said.value != 0, __ATOMIC_RELAXED);
    }
    if (others_are_ready(c))
        add_port(c, 0);
}

void corral_control_end(struct corral_port_control *c, unsigned port)
{
    c->ended[port] = true;
    if (c->ready[port])
        c->due[port] |= DUE_CLOSE;
}

static uint32_t tell(uint8_t *message, unsigned port, uint16_t event, uint16_t value, const char *name)
{
    const struct virtio_console_control control = {.id = port, .event = event, .value = value};
    uint32_t length = strlen(name);
    memcpy(message, &control, sizeof control);
    memcpy(message + sizeof control, name, length);
    return sizeof control + length;
}

uint32_t corral_control_next(struct corral_port_control *c, uint8_t message[CORRAL_CONTROL_MOST])
{
    for (unsigned i = 1; i <= c->n; i++) {
        unsigned port = i % c->n; /* port 0 last */
        uint8_t next = c->due[port] & -c->due[port];
        c->due[port] &= ~next;
        if (next == DUE_ADD)
            return tell(message, port, VIRTIO_CONSOLE_PORT_ADD, 1, "");
        if (next == DUE_NAME)
            return tell(message, port, VIRTIO_CONSOLE_PORT_NAME, 1, c->names[port]);
        if (next)
            return tell(message, port, VIRTIO_CONSOLE_PORT_OPEN, next == DUE_OPEN, "");
    }
    return 0;
}

bool corral_control_has_more(const struct corral_port_control *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->due[i])
            return true;
    return false;
}
