/* The jail: what this process can do no more once its guest runs. docs/security.md has it whole. */
#ifndef CORRAL_JAIL_H
#define CORRAL_JAIL_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* A refused call ends the process with this status, after one line on standard error. */
#define CORRAL_JAIL_STATUS 70

enum corral_jail_kind {
    CORRAL_JAIL_MAIN,
    CORRAL_JAIL_VCPU,
    CORRAL_JAIL_DISK,
    CORRAL_JAIL_STREAM,
    CORRAL_JAIL_CLERK,
    CORRAL_JAIL_SOCKET,
    CORRAL_JAIL_CONNECTOR
};

/* The ABI of this host's Landlock; -errno: ENOSYS and EOPNOTSUPP where it has none. */
int corral_jail_landlock_abi(void);

/* All threads of this process, and those to come, have no capability any more, can open no path, bind and connect
 * no port, and signal and reach no process but this one: the last three by Landlock, as far as its ABI goes. After
 * corral_jail_hide and corral_jail_tell. *landlock: 0, or -errno where the host has none. -errno; ETIMEDOUT: a
 * thread has not answered for a second. */
int corral_jail_give_up(int *landlock);

/* Namespaces of this thread's own and of those that it will start: network, IPC, names, mounts, cgroups. -errno:
 * EPERM of a user who is not root. */
int corral_jail_unshare(void);

/* No privilege can be got from now on, no other process of this user may look into this one, and none of its
 * memory is in a core dump. -errno. */
int corral_jail_hide(void);

/* Refused calls of the filters to come are told of by name. -errno. */
int corral_jail_tell(void);

/* The filter of a kind, for this thread and those that it starts; `all`: for those there are, too. -errno; ESRCH:
 * one of them has another filter. */
int corral_jail_filter(enum corral_jail_kind kind, bool all);

/* The filter of its kind for the calling thread, where this process has one; nothing before, and nothing the
 * second time. -errno. */
int corral_jail_enter(enum corral_jail_kind kind);

/* --- for C alone --- */

/* The same; a thread that cannot have its filter ends the process, with a line. */
void corral_jail_enter_or_end(enum corral_jail_kind kind);

#endif
