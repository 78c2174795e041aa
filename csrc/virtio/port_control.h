/* The control messages of a virtio-console with several ports (virtio 1.2, section 5.3.6.2).
 *
 * What is due to the driver is a few bits for each port, so a driver that asks again and again costs nothing. Port
 * 0 is added last, when the driver knows that the others are open: who finds it there finds all of them ready. */
#ifndef CORRAL_PORT_CONTROL_H
#define CORRAL_PORT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_PORTS_MAX 4
#define CORRAL_PORT_NAME 32 /* bytes, with the one behind it */

/* What was said to a driver, and by it, of a port; each 0 or 1 but the last. */
struct corral_port_talk {
    uint8_t added, ready, open, ended;
    uint8_t due; /* messages that are still to be sent, as bits */
};

/* --- for C alone --- */

#define CORRAL_CONTROL_HEADER 8
#define CORRAL_CONTROL_MOST (CORRAL_CONTROL_HEADER + CORRAL_PORT_NAME)

struct corral_port_control {
    unsigned n; /* ports */
    const char *names[CORRAL_PORTS_MAX];
    bool added[CORRAL_PORTS_MAX]; /* the driver is told of it, or will be */
    bool ready[CORRAL_PORTS_MAX]; /* the driver has made it */
    bool open[CORRAL_PORTS_MAX];  /* atomic: a program of the guest has it open */
    bool ended[CORRAL_PORTS_MAX]; /* there is nothing more to read there */
    uint8_t due[CORRAL_PORTS_MAX];
};

void corral_control_init(struct corral_port_control *c, unsigned n, const char *const *names);

void corral_control_save(const struct corral_port_control *c, unsigned port, struct corral_port_talk *talk);

/* False: there is no such state. */
bool corral_control_restore(struct corral_port_control *c, unsigned port, const struct corral_port_talk *talk);

/* A message of the driver. One that makes no sense is ignored. */
void corral_control_take(struct corral_port_control *c, const uint8_t *message, uint32_t size);

/* The host's end of a port that a program reads is closed: after what it was sent it finds the end. */
void corral_control_end(struct corral_port_control *c, unsigned port);

/* The next message for the driver, which counts as sent. Returns its size, 0: there is none. */
uint32_t corral_control_next(struct corral_port_control *c, uint8_t message[CORRAL_CONTROL_MOST]);

bool corral_control_has_more(const struct corral_port_control *c);

#endif
