/* virtio-vsock (virtio 1.2, section 5.10): connections between programs of the guest and of the host.
 *
 * The host's side is by the convention of Firecracker: who connects to a Unix socket and says "CONNECT PORT\n" is
 * connected to that port of the guest, and told "OK PORT\n"; a program of the guest that connects to a port of the
 * host comes to the Unix socket PATH_PORT.
 *
 * One thread serves all. Bytes go between guest memory and sockets without a copy of ours; what a program of the
 * host does not read is kept, as far as the credit goes that the guest was given. */
#ifndef CORRAL_VSOCK_H
#define CORRAL_VSOCK_H

#include "queue_worker.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_VSOCK_QUEUES 3              /* receive, transmit, events */
#define CORRAL_VSOCK_MOST 4096             /* connections at a time */
#define CORRAL_VSOCK_WINDOW 262144         /* bytes of one connection that wait for a program of the host */
#define CORRAL_VSOCK_KEPT 67108864         /* of all connections; with so many the guest's packets wait */
#define CORRAL_VSOCK_FIRST_PORT 1073741824 /* of the host, for connections to the guest */

struct corral_vsock_config {
    struct corral_worker_config worker;
    uint64_t cid;  /* the guest's */
    int listener;  /* a Unix socket that listens; stays the caller's. -1: no program of the host reaches the guest
                    */
    int connector; /* of corral_vsock_connector; -1: the guest can connect nowhere. The device's from now on */
    int first;     /* a connected socket, whose other end has said all that it has to say: it is connected at the
                      first start, and others are accepted when that connection is over. -1: none. The device's */
    unsigned most; /* connections, 1 to CORRAL_VSOCK_MOST */
};

struct corral_vsock_stats {
    uint64_t connections;          /* at present */
    uint64_t opened, refused;      /* so far; refused: by either side, before there was a connection */
    uint64_t to_guest, from_guest; /* bytes */
};

/* What a guest that goes on has to find again: old ports of the host may be known to it yet. */
struct corral_vsock_saved {
    uint32_t next_port;
};

struct corral_vsock;

/* Starts a process that connects to `path`_PORT for ports that it is told of, and to nothing else; it removes
 * `path` when the other end of its socket is closed, and ends. Returns that end, or -errno: -ENAMETOOLONG. Before
 * there is a guest; `ram` is not the process's. */
int corral_vsock_connector(const char *path, const struct corral_ram *ram);

/* NULL with errno. */
struct corral_vsock *corral_vsock_create(const struct corral_vsock_config *config, const struct corral_ram *ram,
                                         struct corral_virtio_irq *irq);

/* Serves CORRAL_VSOCK_QUEUES queues by one doorbell. `saved`: of a driver that a device has had before. This one
 * after corral_vsock_pause goes on with its connections; another tells that all of them are gone
 * (section 5.10.6.7), and nothing else before the driver has taken that, which it shows by another buffer for
 * events. NULL: it is new. 0; -EBUSY: runs already; -EINVAL, -EFAULT: a queue. */
int corral_vsock_start(struct corral_vsock *v, uint64_t features, const struct corral_virtq_setup *queues,
                       const int *doorbells, const struct corral_vsock_saved *saved);

void corral_vsock_request_stop(struct corral_vsock *v);

/* As corral_worker_stop. All connections are closed then. */
int corral_vsock_stop(struct corral_vsock *v);

/* The same, but connections stay, for a start with what corral_vsock_save gives then. */
int corral_vsock_pause(struct corral_vsock *v);
void corral_vsock_save(const struct corral_vsock *v, struct corral_vsock_saved *saved);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_vsock_destroy(struct corral_vsock *v);

/* Whether the driver has broken a queue. */
bool corral_vsock_failed(const struct corral_vsock *v);

void corral_vsock_stats(const struct corral_vsock *v, struct corral_vsock_stats *stats);

#endif
