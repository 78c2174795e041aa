/* The switch of a network that guests of one user share: a process beside them, which passes frames from one to
 * another and tells the addresses of names.
 *
 * A guest's VMM connects, and says who it is: "NAME MAC\n". It is answered by an address of 10.77.0.0/24,
 * "10.77.0.N\n", or by '!' and why not. From then on frames go both ways behind their lengths in 32 bits,
 * big-endian, as QEMU's
 * `-netdev stream` has it. All of it is hostile: a guest sends from its own addresses or not at all. */
#ifndef SWITCH_H
#define SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SWITCH_LISTENER 3          /* the descriptors that it is started with (backends/shared_network.py) */
#define SWITCH_LOCK 4              /* guests that join hold it for that long */
#define SWITCH_FOLDER 5            /* where the socket and the lock's file are */
#define SWITCH_NETWORK 0x0a4d0000u /* 10.77.0.0 */
#define SWITCH_SELF 1              /* the host number of its own address */
#define SWITCH_PORTS 62            /* guests, which have the host numbers behind its own */

#define MAC_SIZE 6
#define NAME_MAX_SIZE 63 /* of a label (RFC 1035) */
#define FRAME_MAX 65550  /* bytes: an Ethernet header, and as much as IPv4 has */
#define LENGTH_SIZE 4
#define QUEUE_SIZE (256 << 10) /* bytes that wait for a guest; what is more is dropped */

/* A guest's connection. */
struct port {
    int fd;        /* -1: free */
    bool is_known; /* has said who it is */
    char name[NAME_MAX_SIZE + 1];
    uint8_t mac[MAC_SIZE];
    uint32_t address; /* of IPv4, host byte order */
    size_t have;      /* bytes of `in` */
    uint8_t in[LENGTH_SIZE + FRAME_MAX];
    size_t first, queued; /* of `out`, a ring */
    uint8_t out[QUEUE_SIZE];
};

struct switch_state {
    uint32_t owner; /* the user whose guests may come */
    struct port ports[SWITCH_PORTS];
};

/* ports.c: bytes of connections. */
void port_open(struct switch_state *state, int fd);
void port_close(struct port *port);
bool port_receive(struct switch_state *state, struct port *port); /* false: it has ended, or says nonsense */
bool port_send(struct port *port);
void port_queue(struct port *port, const uint8_t *frame, size_t size); /* drops what there is no room for */

/* frames.c: one frame of a guest. */
void switch_frame(struct switch_state *state, struct port *from, const uint8_t *frame, size_t size);

/* names.c: what the switch itself answers. A frame in `answer`, which has room for FRAME_MAX bytes; 0: none. */
size_t switch_answer(const struct switch_state *state, const uint8_t *frame, size_t size, uint8_t *answer);

/* jail.c: gives all rights up but those that it works by. */
void switch_jail(void);

static inline uint32_t port_address(const struct switch_state *state, const struct port *port)
{
    return SWITCH_NETWORK + SWITCH_SELF + 1 + (uint32_t)(port - state->ports);
}

static inline uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

#endif
