/* Inside of vsock.h. All of it is the worker's thread's, but for what is atomic.
 *
 * vsock.c has the device's life and its thread, vsock_table.c the connections and what is kept of them,
 * vsock_take.c what comes from the guest, vsock_give.c what goes there, vsock_host.c the sockets. */
#ifndef CORRAL_VSOCK_DEVICE_H
#define CORRAL_VSOCK_DEVICE_H

#include "vsock.h"

#include <linux/virtio_vsock.h>

#define CORRAL_VSOCK_CHUNK 4096u
#define CORRAL_VSOCK_CHUNKS (CORRAL_VSOCK_KEPT / CORRAL_VSOCK_CHUNK)
#define CORRAL_VSOCK_NONE 0xffffffffu /* as an index */
#define CORRAL_VSOCK_BUCKETS 4096u
#define CORRAL_VSOCK_RESETS                                                                                       \
    512u /* that wait; of those, packets of the guest, then sockets are left alone from                           \
          */
#define CORRAL_VSOCK_RESETS_GUEST 256u
#define CORRAL_VSOCK_RESETS_HOST 384u
#define CORRAL_VSOCK_HOST 2u /* the host's CID */

/* What a packet tells beside its operation (section 5.10.6.5): the sender will not receive, or not send. */
#define CORRAL_VSOCK_NO_RECEIVE 1u
#define CORRAL_VSOCK_NO_SEND 2u
#define CORRAL_VSOCK_BOTH 3u

enum corral_vsock_state {
    CORRAL_VSOCK_FREE,
    CORRAL_VSOCK_NAMING,       /* a program of the host has not yet said which port it wants */
    CORRAL_VSOCK_ASKING_GUEST, /* whether it takes the connection */
    CORRAL_VSOCK_ASKING_HOST,  /* the connector */
    CORRAL_VSOCK_OPEN
};

/* Packets that the guest is to get of a connection, beside its bytes. */
enum { OWES_REQUEST = 1, OWES_RESPONSE = 2, OWES_SHUTDOWN = 4, OWES_CREDIT = 8, OWES_CREDIT_REQUEST = 16 };

struct corral_vsock_connection {
    enum corral_vsock_state state;
    uint32_t generation;           /* of this place: what comes for one before it is not this one's */
    uint32_t next;                 /* of its bucket, or of those that are free */
    uint32_t due_next, due_before; /* of those that have something for the guest */
    bool due;
    uint32_t guest_port, host_port;
    int fd;               /* -1: closed already */
    unsigned owes;        /* OWES_ */
    bool readable;        /* the socket may have something */
    bool may_end;         /* and behind it its end */
    bool ended;           /* it has no more */
    bool asked;           /* the guest, for room */
    bool hung_up;         /* it takes no more either */
    unsigned guest_ended; /* CORRAL_VSOCK_NO_: what the guest has told */
    unsigned told;        /* what it was told */
    bool shut;            /* the program of the host knows that the guest sends no more */
    /* Credit (section 5.10.6.3); all of these wrap. */
    uint32_t sent, room, taken; /* to the guest, its room for that, and what its program has read of it */
    uint32_t received, forwarded, credit; /* from the guest, to the socket, and how much of that the guest knows */
    uint32_t kept, first, last, at, end;  /* bytes that wait: chunks, begin in the first and end of the last */
};

struct corral_vsock_reset {
    uint64_t cid; /* that the guest calls itself */
    uint32_t guest_port, host_port;
    uint16_t type;
};

struct corral_vsock {
    struct corral_queue_worker worker;
    struct corral_vsock_config config;
    struct corral_served_queue rx, tx, events;
    int epoll;
    bool listening;   /* there is room for another connection */
    bool has_answers; /* of the connector */
    bool owes_event;
    bool awaits_driver; /* it has not taken the event yet */
    bool is_new;        /* since the start: connections there were are none of this driver's */
    bool resumes;
    bool keeps;     /* atomic: connections stay at the next stop */
    bool greets;    /* the first connection is not over */
    uint64_t first; /* its token */
    uint32_t next_port;
    struct corral_vsock_connection *connections; /* config.most */
    uint32_t buckets[CORRAL_VSOCK_BUCKETS];
    uint32_t free, due_first, due_last;
    struct corral_vsock_reset resets[CORRAL_VSOCK_RESETS]; /* a ring */
    uint32_t resets_at, n_resets;
    uint8_t *chunks; /* CORRAL_VSOCK_CHUNKS; what was never used is no memory */
    uint32_t *chunk_next;
    uint32_t chunk_free, chunks_used, chunks_kept; /* a list; how many were ever taken, and are at present */
    bool to_guest_held;                            /* a chain that nothing was there for */
    struct corral_chain to_guest;
    struct corral_vsock_stats stats; /* atomic, each */
};

static inline void corral_vsock_count(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* --- vsock_table.c --- */

bool corral_vsock_table_create(struct corral_vsock *v);
void corral_vsock_table_destroy(struct corral_vsock *v);

/* Closes all, as for a driver that begins. */
void corral_vsock_clear(struct corral_vsock *v);

struct corral_vsock_connection *corral_vsock_find(struct corral_vsock *v, uint32_t guest_port, uint32_t host_port);

/* A new one with this socket, or -1; NULL: there is no room. It is not found before corral_vsock_name. */
struct corral_vsock_connection *corral_vsock_add(struct corral_vsock *v, enum corral_vsock_state state, int fd);

void corral_vsock_name(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t guest_port,
                       uint32_t host_port);

/* A port of the host that none of its connections with that port of the guest has. */
uint32_t corral_vsock_new_port(struct corral_vsock *v, uint32_t guest_port);

/* The guest knows nothing of it, or no more. */
void corral_vsock_remove(struct corral_vsock *v, struct corral_vsock_connection *c);

/* It keeps its place until the guest has said that it is done with it. */
void corral_vsock_close_socket(struct corral_vsock *v, struct corral_vsock_connection *c);

/* It has something for the guest. */
void corral_vsock_is_due(struct corral_vsock *v, struct corral_vsock_connection *c);
void corral_vsock_owe(struct corral_vsock *v, struct corral_vsock_connection *c, unsigned owes);
struct corral_vsock_connection *corral_vsock_next_due(struct corral_vsock *v);

/* What epoll tells of a connection by, and back: NULL for one that is gone. */
uint64_t corral_vsock_token(const struct corral_vsock *v, const struct corral_vsock_connection *c);
struct corral_vsock_connection *corral_vsock_by_token(struct corral_vsock *v, uint64_t token);

/* Whether a packet's bytes can be kept, of any connection. */
bool corral_vsock_can_keep(const struct corral_vsock *v);
void corral_vsock_keep(struct corral_vsock *v, struct corral_vsock_connection *c, const uint8_t *data,
                       size_t size);
/* What comes next of what is kept, in `iov`; returns how many segments, `most` at most. */
unsigned corral_vsock_kept(const struct corral_vsock *v, const struct corral_vsock_connection *c,
                           struct iovec *iov, unsigned most);
void corral_vsock_forget(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t size);

/* --- vsock_take.c --- */

/* Packets of the guest, a queue's worth. */
void corral_vsock_take(struct corral_vsock *v);
/* Whether another can be answered and kept. */
bool corral_vsock_can_take(const struct corral_vsock *v);

/* --- vsock_give.c --- */

/* Packets for the guest, as many as there are and it has room for. */
void corral_vsock_give(struct corral_vsock *v);
bool corral_vsock_has_more(const struct corral_vsock *v);
/* There is no connection of these ports. */
void corral_vsock_refuse(struct corral_vsock *v, uint64_t cid, uint32_t guest_port, uint32_t host_port,
                         uint16_t type);
/* Bytes that the guest has room for. */
uint32_t corral_vsock_room(const struct corral_vsock_connection *c);

/* --- vsock_host.c --- */

#define CORRAL_VSOCK_LISTENER UINT64_MAX /* as tokens */
#define CORRAL_VSOCK_CONNECTOR (UINT64_MAX - 1)

/* What has come from sockets since the last look. */
void corral_vsock_look(struct corral_vsock *v);
/* 0 or -errno. */
int corral_vsock_watch(struct corral_vsock *v, int fd, uint64_t token, uint32_t events);
/* Bytes of a packet, of which the socket may take some and the rest is kept. */
void corral_vsock_forward(struct corral_vsock *v, struct corral_vsock_connection *c, struct iovec *iov,
                          unsigned n);
/* What the guest has told by its SHUTDOWN packets, as far as nothing is kept that comes before. */
void corral_vsock_end(struct corral_vsock *v, struct corral_vsock_connection *c);
/* The guest has taken a connection of the host's. */
void corral_vsock_tell_port(struct corral_vsock *v, struct corral_vsock_connection *c);
/* Asks the connector. */
void corral_vsock_ask_host(struct corral_vsock *v, struct corral_vsock_connection *c);
/* The program of the host has gone. */
void corral_vsock_hang_up(struct corral_vsock *v, struct corral_vsock_connection *c);
void corral_vsock_listen(struct corral_vsock *v, bool listening);
/* The first connection, when there is none yet. */
void corral_vsock_greet(struct corral_vsock *v);

/* --- vsock_connector.c --- */

#define CORRAL_VSOCK_ENDS UINT64_MAX /* as a token: no question, but the end */

struct corral_vsock_question {
    uint64_t token;
    uint32_t port;
    int32_t error; /* in the answer: errno; 0: a socket comes with it */
};

#endif
