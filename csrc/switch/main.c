/* _corral_switch NAME: serves the listener that it is started with until no guest is left; then it removes
 * NAME.socket and NAME.lock. What it does is in switch.h. */
#define _GNU_SOURCE
#include "switch.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALONE 2000 /* ms without a guest, after which it ends */

static struct switch_state state;

static bool is_owners(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == state.owner);
}

static void take_guest(void)
{
    const int fd = accept4(SWITCH_LISTENER, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (is_owners(fd))
        port_open(&state, fd);
    else
        close(fd);
}

static void serve(struct port *port, short events)
{
    if ((events & POLLIN && !port_receive(&state, port)) || (events & (POLLHUP | POLLERR) && !(events & POLLIN)))
        port_close(port);
}

/* False: no guest is there, and none has come for a while. */
static bool turn(void)
{
    struct pollfd polled[SWITCH_PORTS + 1];
    struct port *of[SWITCH_PORTS + 1];
    nfds_t n = 0;
    polled[n++] = (struct pollfd){.fd = SWITCH_LISTENER, .events = POLLIN};
    for (struct port *port = state.ports; port < state.ports + SWITCH_PORTS; port++)
        if (port->fd >= 0) {
            of[n] = port;
            polled[n++] =
                (struct pollfd){.fd = port->fd, .events = (short)(POLLIN | (port->queued ? POLLOUT : 0))};
        }
    const int ready = poll(polled, n, n > 1 ? -1 : ALONE);
    if (ready == 0)
        return false;
    if (ready < 0)
        return true; /* a signal */
    for (nfds_t i = 1; i < n; i++)
        if (polled[i].revents)
            serve(of[i], polled[i].revents);
    for (struct port *port = state.ports; port < state.ports + SWITCH_PORTS; port++)
        if (port->fd >= 0 && port->queued && !port_send(port))
            port_close(port);
    if (polled[0].revents)
        take_guest();
    return true;
}

/* Nobody joins meanwhile. False: somebody does, or has. */
static bool leave(const char *name)
{
    struct pollfd listener = {.fd = SWITCH_LISTENER, .events = POLLIN};
    char path[NAME_MAX + 1];
    if (flock(SWITCH_LOCK, LOCK_EX | LOCK_NB) < 0)
        return false;
    if (poll(&listener, 1, 0) > 0) {
        flock(SWITCH_LOCK, LOCK_UN);
        return false;
    }
    snprintf(path, sizeof path, "%s.socket", name);
    unlinkat(SWITCH_FOLDER, path, 0);
    snprintf(path, sizeof path, "%s.lock", name);
    unlinkat(SWITCH_FOLDER, path, 0);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: _corral_switch NAME\n", stderr);
        return EXIT_FAILURE;
    }
    state.owner = geteuid();
    for (struct port *port = state.ports; port < state.ports + SWITCH_PORTS; port++)
        port->fd = -1;
    prctl(PR_SET_NAME, "corral-switch");
    fcntl(SWITCH_LISTENER, F_SETFL, O_NONBLOCK);
    close_range(SWITCH_FOLDER + 1, ~0u, 0);
    switch_jail();
    while (turn() || !leave(argv[1]))
        ;
    return EXIT_SUCCESS;
}
