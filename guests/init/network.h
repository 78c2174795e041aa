/* Network cards of a guest that has no DHCP client: set up by ioctls (netdevice(7)), which costs no program.
 *
 * From the kernel command line: corral.net=ADDRESS/PREFIX,GATEWAY,RESOLVER, and after a + the same of the next card.
 * 0.0.0.0 stands for none; a card is up in any case. */
#pragma once

#include "resolver.h"

#include <linux/sockios.h>

#define IPV4 2      /* AF_INET */
#define DATAGRAMS 2 /* SOCK_DGRAM */
#define UP 1        /* IFF_UP */
#define ROUTE 3     /* RTF_UP | RTF_GATEWAY */
#define CARDS 10

/* struct sockaddr_in, struct ifreq and struct rtentry, whose headers need a C library's. Addresses are in network
 * order. */
struct ip_socket_address {
    unsigned short family, port;
    unsigned address;
    char rest[8];
};

struct interface_request {
    char name[16];
    union {
        struct ip_socket_address address;
        short flags;
        char rest[24];
    };
};

struct route_entry {
    word padding;
    struct ip_socket_address destination, gateway, mask;
    unsigned short flags;
    char rest[62];
};

static void set_address(long fd, struct interface_request *request, unsigned what, unsigned address)
{
    memset(&request->address, 0, sizeof request->address);
    request->address.family = IPV4;
    request->address.address = address;
    SYSCALL(ioctl, fd, what, request, 0, 0);
}

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
    unsigned char mask[4] = {0};
    unsigned netmask, prefix = 0;
    request.name[3] = (char)('0' + number);
    unsigned address = take_address(&at);
    for (; *at >= '0' && *at <= '9'; at++)
        prefix = prefix * 10 + (unsigned)(*at - '0');
    for (unsigned bit = 0; bit < prefix && bit < 32; bit++)
        mask[bit / 8] |= (unsigned char)(0x80 >> bit % 8);
    memcpy(&netmask, mask, sizeof netmask);
    if (*at)
        at++;
    unsigned gateway = take_address(&at);
    if (address) {
        set_address(fd, &request, SIOCSIFADDR, address);
        set_address(fd, &request, SIOCSIFNETMASK, netmask);
    }
    interface_up(fd, &request);
    if (gateway)
        default_route(fd, gateway);
    take_address(&at); /* the resolver */
    return at;
}

/* All of them, if there are any. The command line must have been read. */
static void network_up(const char *command_line)
{
    static char words[1024];
    const char *at = words;
    if (!parameter(command_line, "corral.net", words, sizeof words))
        return;
    loopback_up();
    long fd = SYSCALL(socket, IPV4, DATAGRAMS, 0, 0, 0);
    for (int number = 0; *at && number < CARDS; number++)
        at = card_up(fd, number, at);
    SYSCALL(close, fd, 0, 0, 0, 0);
    use_resolver(words, "/etc", "/etc/resolv.conf");
}
