/* Corral's agent: what runs in a guest for programs of its host. It listens on a port of virtio-vsock and has a process
 * for each connection, so that none holds up another and all of one ends with it. docs/agent.md has the protocol.
 *
 * Freestanding, as the inits are: it is in every initramfs of Corral's, and runs in any system. */

#include "../init/freestanding.h"
#include "copy.h"
#include "run.h"
#include "system.h"

#define WAITING 128

/* linux/vm_sockets.h, which wants a C library. */
#define AF_VSOCK 40
#define VMADDR_CID_ANY 0xffffffffu
#define VMADDR_CID_HOST 2

struct sockaddr_vm {
    unsigned short svm_family, svm_reserved1;
    unsigned svm_port, svm_cid;
    unsigned char svm_flags, svm_zero[3];
};

/* One request, and the end. */
__attribute__((noreturn)) static void serve(void)
{
    static const struct {
        char word[12];
        unsigned short version, zero;
    } hello = {"corral-agent", VERSION, 0};
    word size;
    send(HELLO, &hello, sizeof hello);
    unsigned char kind = receive(request, &size);
    switch (kind) {
    case RUN:
        run(size);
    case READ:
        read_file_at(request);
        break;
    case WRITE:
        write_file_at(request, size);
        break;
    case STAT:
        tell_of(request);
        break;
    case LIST:
        list_folder(request);
        break;
    case MAKE:
        make_folder(request, size);
        break;
    case REMOVE:
        remove_file(request);
        break;
    case PACK:
        pack_tree(request);
        break;
    case UNPACK:
        unpack_tree(request);
        break;
    case MOUNT:
        mount_there(request, size);
        break;
    case UNMOUNT:
        unmount_there(request);
        break;
    case CONNECT:
        connect_to_port(request, size);
        break;
    case TIME:
        set_time(request, size);
        break;
    case IDENTITY:
        become(request, size);
        break;
    case ALIVE:
        tell_alive();
        break;
    case POWER_OFF:
        power_off();
        break;
    default:
        fail(-EPROTO, "a request that this agent does not know");
    }
    leave(0);
}

static void set_handler(int number, __sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler};
    SYSCALL(rt_sigaction, number, &action, 0, sizeof action.sa_mask, 0);
}

__attribute__((noreturn, used)) static void start(void)
{
    struct sockaddr_vm own = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY}, peer;
    int size;
    for (long fd = 0; fd >= 0 && fd < 3;)
        fd = SYSCALL(open, "/dev/null", O_RDWR, 0, 0, 0);
    SYSCALL(setsid, 0, 0, 0, 0, 0);
    SYSCALL(chdir, "/", 0, 0, 0, 0);
    set_handler(SIGCHLD, SIG_IGN); /* its processes are nobody's to wait for */
    set_handler(SIGPIPE, SIG_IGN);
    set_handler(SIGHUP, SIG_IGN);
    long listener = SYSCALL(socket, own.svm_family, STREAM_SOCKET | O_CLOEXEC, 0, 0, 0);
    long error = listener < 0 ? listener : SYSCALL(bind, listener, &own, sizeof own, 0, 0);
    if (!error)
        error = SYSCALL(listen, listener, WAITING, 0, 0, 0);
    if (error < 0)
        leave(1);
    for (;;) {
        size = sizeof peer;
        long fd = SYSCALL(accept4, listener, &peer, &size, O_CLOEXEC, 0);
        if (fd < 0 && fd != -EINTR) { /* no descriptor, no memory: later */
            struct __kernel_timespec moment = {0, 10 * 1000 * 1000};
            SYSCALL(nanosleep, &moment, 0, 0, 0, 0);
        }
        if (fd < 0)
            continue;
        /* Only the host: a program of the guest that has vsock's loopback is not to become root by it. */
        if (peer.svm_cid == VMADDR_CID_HOST && SYSCALL(fork, 0, 0, 0, 0, 0) == 0) {
            set_handler(SIGCHLD, SIG_DFL);
            set_handler(SIGHUP, SIG_DFL);
            SYSCALL(close, listener, 0, 0, 0, 0);
            line = (int)fd;
            serve();
        }
        SYSCALL(close, fd, 0, 0, 0, 0);
    }
}
