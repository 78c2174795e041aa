/* The socket between the device of a shared folder and its server: whole messages there and whole answers back.
 *
 * It outlives the device's starts, as the server does: a new start of the driver is a new session on the same
 * socket, which begins with a Tversion of ours. The server answers it when it has answered all that came before,
 * so what is owed of earlier sessions is told by counting, and is thrown away. One thread sends and one receives;
 * a stop ends their waiting in the middle of a message, which the next session completes. */
#ifndef CORRAL_P9_LINE_H
#define CORRAL_P9_LINE_H

#include "p9_message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct corral_p9_line {
    int fd;      /* the caller's */
    int stop_fd; /* an eventfd, signalled from a stop until the next session */
    bool gone;   /* atomic: the server has ended, for good */
    /* The sender's. */
    uint64_t sent; /* messages that were begun */
    uint32_t left; /* bytes of `out` that a stop has kept from being sent, its last ones */
    uint32_t size;
    bool anew;                          /* the session has to be begun */
    uint8_t out[CORRAL_P9_MESSAGE_MAX]; /* where a message is put */
    /* The receiver's. */
    uint64_t received;   /* answers */
    uint64_t session;    /* which answer is the first of this session */
    uint32_t begin, end; /* of what was received into `in` and is not answered yet */
    uint8_t in[CORRAL_P9_MESSAGE_MAX];
};

/* -errno; corral_p9_line_destroy in either case. */
int corral_p9_line_init(struct corral_p9_line *l, int fd);
void corral_p9_line_destroy(struct corral_p9_line *l);

/* A new session, while no thread sends or receives. */
void corral_p9_line_begin(struct corral_p9_line *l);

/* Ends waiting, until the next session. From any thread. */
void corral_p9_line_stop(struct corral_p9_line *l);

/* The first thing that the sender does in a session. False: a stop, or the server is gone. */
bool corral_p9_line_greet(struct corral_p9_line *l);

/* The message in `out`, of `size` bytes. False likewise. */
bool corral_p9_line_send(struct corral_p9_line *l, uint32_t size);

/* The next answer of this session, whole, as long as its header says; valid until the next call. NULL likewise. */
const uint8_t *corral_p9_line_receive(struct corral_p9_line *l);

bool corral_p9_line_is_gone(const struct corral_p9_line *l);

#endif
