/* Connections: who a guest is, its frames out of the stream, and those that wait for it. */
#define _GNU_SOURCE
#include "switch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_MAX 96 /* bytes of "NAME MAC\n" */

void port_open(struct switch_state *state, int fd)
{
    static const char full[] = "! it has 62 guests, and no room for another\n";
    for (struct port *port = state->ports; port < state->ports + SWITCH_PORTS; port++)
        if (port->fd < 0) {
            port->fd = fd;
            port->is_known = false;
            port->have = port->first = port->queued = 0;
            return;
        }
    send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

void port_close(struct port *port)
{
    close(port->fd);
    port->fd = -1;
    port->is_known = false;
}

static void put(struct port *port, const uint8_t *bytes, size_t size)
{
    for (size_t done = 0, piece; done < size; done += piece) {
        const size_t at = (port->first + port->queued) % QUEUE_SIZE;
        piece = size - done < QUEUE_SIZE - at ? size - done : QUEUE_SIZE - at;
        memcpy(port->out + at, bytes + done, piece);
        port->queued += piece;
    }
}

void port_queue(struct port *port, const uint8_t *frame, size_t size)
{
    uint8_t length[LENGTH_SIZE];
    if (LENGTH_SIZE + size > QUEUE_SIZE - port->queued)
        return;
    put32(length, (uint32_t)size);
    put(port, length, LENGTH_SIZE);
    put(port, frame, size);
}

bool port_send(struct port *port)
{
    while (port->queued) {
        const size_t end = QUEUE_SIZE - port->first;
        const size_t piece = port->queued < end ? port->queued : end;
        const ssize_t n = send(port->fd, port->out + port->first, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        port->first = (port->first + (size_t)n) % QUEUE_SIZE;
        port->queued -= (size_t)n;
    }
    return true;
}

static bool is_name(const char *name)
{
    for (const char *at = name; *at; at++)
        if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
              *at == '-' || *at == '_' || *at == '.'))
            return false;
    return *name;
}

static const char *why_not(const struct switch_state *state, const struct port *port)
{
    for (const struct port *other = state->ports; other < state->ports + SWITCH_PORTS; other++) {
        if (other->fd < 0 || !other->is_known || other == port)
            continue;
        if (strcasecmp(other->name, port->name) == 0)
            return "a guest there has this name; give this one another: --name, --hostname\n";
        if (memcmp(other->mac, port->mac, MAC_SIZE) == 0)
            return "a guest there has this card's address; leave mac= out\n";
    }
    return NULL;
}

/* The line that a connection begins with. False: it is none, or it cannot be had. */
static bool greet(struct switch_state *state, struct port *port)
{
    char line[HELLO_MAX + 1], text[HELLO_MAX + 1];
    const uint8_t *end = memchr(port->in, '\n', port->have);
    if (!end)
        return port->have < HELLO_MAX;
    const size_t size = (size_t)(end - port->in);
    unsigned mac[MAC_SIZE];
    int used = -1;
    if (size > HELLO_MAX || memchr(port->in, 0, size))
        return false;
    memcpy(line, port->in, size);
    line[size] = 0;
    if (sscanf(line, "%63s %2x:%2x:%2x:%2x:%2x:%2x%n", port->name, mac, mac + 1, mac + 2, mac + 3, mac + 4,
               mac + 5, &used) != 7 ||
        line[used] || !is_name(port->name))
        return false;
    for (int i = 0; i < MAC_SIZE; i++)
        port->mac[i] = (uint8_t)mac[i];
    const char *refusal = why_not(state, port);
    port->address = port_address(state, port);
    const int n = refusal ? snprintf(text, sizeof text, "! %s", refusal)
                          : snprintf(text, sizeof text, "10.77.0.%u\n", port->address & 0xff);
    put(port, (const uint8_t *)text, (size_t)n);
    if (refusal) {
        port_send(port);
        return false;
    }
    port->is_known = true;
    port->have -= size + 1;
    memmove(port->in, end + 1, port->have);
    return true;
}

bool port_receive(struct switch_state *state, struct port *port)
{
    const ssize_t n = recv(port->fd, port->in + port->have, sizeof port->in - port->have, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    port->have += (size_t)n;
    if (!port->is_known && !greet(state, port))
        return false;
    size_t at = 0;
    while (port->is_known && port->have - at >= LENGTH_SIZE) {
        const size_t size = get32(port->in + at);
        if (size > FRAME_MAX)
            return false;
        if (port->have - at < LENGTH_SIZE + size)
            break;
        switch_frame(state, port, port->in + at + LENGTH_SIZE, size);
        at += LENGTH_SIZE + size;
    }
    port->have -= at;
    memmove(port->in, port->in + at, port->have);
    return true;
}
