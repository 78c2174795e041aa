/* A 9P2000.L server of one folder, for one client: Corral's device, which hands on what a guest sends.
 *
 * The way of a message: serve.c receives it whole and finds its handler; a handler (names.c, files.c, folders.c,
 * attributes.c, xattrs.c, locks.c) takes fields from the question, does one system call or a few on descriptors of
 * fids (fids.c), and puts fields into the answer. No paths are kept: a fid is an O_PATH descriptor, names are
 * looked up one at a time below one, and the process's working folder is its own /proc/self/fd, by which a
 * descriptor has a path for system calls that want one (tree.h). */
#ifndef P9_SERVER_H
#define P9_SERVER_H

#include "../virtio/p9_message.h"
#include "fids.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

#define P9_WORKERS 8

/* Set before the first message. */
struct p9_config {
    int folder;     /* O_PATH */
    uint64_t mount; /* that it is in, by statx(2) */
    bool read_only;
    bool as_root;      /* the guest's users are the host's of the same numbers */
    uint32_t uid, gid; /* of this process; to the guest they are 0 where it is not root */
};

extern struct p9_config p9_config;

struct p9_worker;

struct p9_request {
    struct p9_worker *worker;
    struct p9_question in;
    struct p9_answer out;
};

/* What a handler returns: 0, or the errno that is the answer. */
typedef int p9_handler(struct p9_request *r);

p9_handler p9_attach, p9_walk, p9_clunk, p9_remove;                                        /* walk.c */
p9_handler p9_mkdir, p9_mknod, p9_symlink, p9_link, p9_renameat, p9_unlinkat, p9_readlink; /* names.c */
p9_handler p9_lopen, p9_lcreate, p9_read, p9_write, p9_fsync;                              /* files.c */
p9_handler p9_readdir, p9_statfs;                                                          /* folders.c */
p9_handler p9_getattr, p9_setattr;                                                         /* attributes.c */
p9_handler p9_xattrwalk, p9_xattrcreate;                                                   /* xattrs.c */
p9_handler p9_lock, p9_getlock;                                                            /* locks.c */

/* The rest of what this request does may wait, for a disk say: another worker receives meanwhile. */
void p9_may_wait(struct p9_request *r);

/* Answers messages from the socket with P9_WORKERS threads, and does not return before it ends or makes no sense:
 * then the process ends. `ready` is called when the threads are there, before the first byte is read. */
_Noreturn void p9_serve(int socket, void (*ready)(void));

/* One message, `size` bytes of it; the answer's size, 0 for none. For serve.c, and for the fuzzer. */
struct p9_worker *p9_worker(unsigned index);
uint32_t p9_answer_to(struct p9_worker *w, uint8_t *message, uint32_t size, uint8_t *answer);

/* One line to the user: what keeps this server from serving. Ends the process. */
_Noreturn void p9_give_up(const char *what, int error);

#endif
