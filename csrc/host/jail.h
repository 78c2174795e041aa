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
    CORRAL_JAIL_CONNECTOR,
    CORRAL_JAIL_DEBUGGER,
    CORRAL_JAIL_NAMED,
    CORRAL_JAIL_SCRIPT,
    CORRAL_JAIL_FILES,
    CORRAL_JAIL_KINDS
};

/* The ABI of this host's Landlock; -errno: ENOSYS and EOPNOTSUPP where it has none. */
int corral_jail_landlock_abi(void);

/* A file or folder that may be opened all the same; with `writes` to be changed, too, and files made in it. */
struct corral_jail_path {
    int fd; /* O_PATH */
    bool writes;
};

/* All threads of this process, and those to come, have no capability any more, can open no path but these `n`,
 * bind and connect no port, and signal and reach no process but this one: the last three by Landlock, as far as
 * its ABI goes. After corral_jail_hide and corral_jail_tell. *landlock: 0, or -errno where the host has none.
 * -errno; ETIMEDOUT: a thread has not answered for a second. */
int corral_jail_give_up(int *landlock, const struct corral_jail_path *paths, unsigned n);

/* Namespaces of this thread's own and of those that it will start: IPC, names, mounts, cgroups. -errno: EPERM of a
 * user who is not root. */
int corral_jail_unshare(void);

#define CORRAL_JAIL_GIVEN_MAX 4

struct corral_jail_prepared {
    int pid;     /* of the process; -errno */
    int network; /* a descriptor of a network namespace; -errno: there is none */
};

/* Begins on a thread of its own to start a process, of `words` that end with NULL, with `given` as its descriptors
 * 3 and on; NULL: none; and to make a network namespace, which corral_jail_give_up has all threads enter. Words
 * and descriptors stay until corral_jail_await. -errno. */
int corral_jail_prepare(char *const *words, const int *given, unsigned n);

/* Waits for that; the process is the caller's. */
void corral_jail_await(struct corral_jail_prepared *result);

/* The network's too, in a user namespace of its own: to see whether it can be had. -errno. */
int corral_jail_unshare_user(void);

/* No file can be made longer than this by any thread from now on. -errno. */
int corral_jail_limit_files(uint64_t bytes);

/* No privilege can be got from now on, no other process of this user may look into this one, and none of its
 * memory is in a core dump. malloc asks the kernel for nothing but memory. -errno. */
int corral_jail_hide(void);

/* Refused calls of the filters to come are told of by name, and end the process; with `goes_on` they are told of
 * once for each kind of thread, and done. -errno. */
int corral_jail_tell(bool goes_on);

/* The filter of a kind, for this thread and those that it starts; `all`: for those there are, too. What a kind may
 * that all have by now, it may; what it may besides, it may not. -errno; ESRCH: one of them has another filter. */
int corral_jail_filter(enum corral_jail_kind kind, bool all);

/* 0: this host has filters; -errno. */
int corral_jail_has_filters(void);

/* The filter of its kind for the calling thread, where this process has one; nothing before, and nothing the
 * second time. -errno. */
int corral_jail_enter(enum corral_jail_kind kind);

/* --- for C alone --- */

/* The namespace that was prepared, or -errno. */
int corral_jail_take_network(void);

/* What a thread does that is asked to give its rights up. Safe in a signal handler. */
void corral_jail_answer(void);

/* The same as corral_jail_enter; a thread that cannot have its filter ends the process, with a line. */
void corral_jail_enter_or_end(enum corral_jail_kind kind);

#endif
