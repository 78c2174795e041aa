/* Network cards of a guest that has no DHCP client: set up by ioctls (netdevice(7)), which costs no program.
 *
 * From the kernel command line: corral.net=ADDRESS/PREFIX,GATEWAY,RESOLVER, and after a + the same of the next card.
 * 0.0.0.0 stands for none; a card is up in any case. */
#pragma once

#include "interface.h"
#include "resolver.h"

#define UP 1    /* IFF_UP */
#define ROUTE 3 /* RTF_UP | RTF_GATEWAY */
#define CARDS 10

/* struct rtentry, whose header needs a C library's. */
struct route_entry {
    word padding;
    struct ip_socket_address destination, gateway, mask;
    unsigned short flags;
    char rest[62];
};

static void interface_up(long fd, struct interface_request *request)
{
    memset(request->rest, 0, sizeof request->rest);
    request->flags = UP;
    SYSCALL(ioctl, fd, SIOCSIFFLAGS, request, 0, 0);
}

static void loopback_up(void)
{
    struct interface_request request = {.name = "lo"};
    long fd = SYSCALL(socket, IPV4, DATAGRAMS, 0, 0, 0);
    interface_up(fd, &request);
    SYSCALL(close, fd, 0, 0, 0, 0);
}

static void default_route(long fd, unsigned gateway)
{
    struct route_entry route = {.destination.family = IPV4, .gateway = {.family = IPV4, .address = gateway}};
    route.mask.family = IPV4;
    route.flags = ROUTE;
    SYSCALL(ioctl, fd, SIOCADDRT, &route, 0, 0);
}

/* One card by its words; returns what is behind them. */
static const char *card_up(long fd, int number, const char *at)
{
    struct interface_request request = {.name = "eth0"};
    unsigned prefix = 0;
    request.name[3] = (char)('0' + number);
    unsigned address = take_address(&at);
    for (; *at >= '0' && *at <= '9'; at++)
        prefix = prefix * 10 + (unsigned)(*at - '0');
    if (*at)
        at++;
    unsigned gateway = take_address(&at);
    if (address)
        set_network(fd, &request, address, prefix);
    interface_up(fd, &request);
    if (gateway)
        default_route(fd, gateway);
    take_address(&at); /* the resolver */
    return at;
}

/* The guest's own loopback, and all cards, if there are any. The command line must have been read. */
static void network_up(const char *command_line)
{
    static char words[1024];
    const char *at = words;
    loopback_up();
    if (!parameter(command_line, "corral.net", words, sizeof words))
        return;
    long fd = SYSCALL(socket, IPV4, DATAGRAMS, 0, 0, 0);
    for (int number = 0; *at && number < CARDS; number++)
        at = card_up(fd, number, at);
    SYSCALL(close, fd, 0, 0, 0, 0);
    use_resolver(words, "/etc", "/etc/resolv.conf");
}
