/* Interfaces of the network by their ioctls (netdevice(7)). */
#pragma once

#include "freestanding.h"

#include <linux/sockios.h>

#define IPV4 2      /* AF_INET */
#define DATAGRAMS 2 /* SOCK_DGRAM */
#define ETHERNET 1  /* ARPHRD_ETHER */

/* struct sockaddr_in and struct ifreq, whose headers need a C library's. Addresses are in network order. */
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

static void set_address(long fd, struct interface_request *request, unsigned what, unsigned address)
{
    memset(&request->address, 0, sizeof request->address);
    request->address.family = IPV4;
    request->address.address = address;
    SYSCALL(ioctl, fd, what, request, 0, 0);
}

static void set_network(long fd, struct interface_request *request, unsigned address, unsigned prefix)
{
    unsigned char mask[4] = {0};
    unsigned netmask;
    for (unsigned bit = 0; bit < prefix && bit < 32; bit++)
        mask[bit / 8] |= (unsigned char)(0x80 >> bit % 8);
    memcpy(&netmask, mask, sizeof netmask);
    set_address(fd, request, SIOCSIFADDR, address);
    set_address(fd, request, SIOCSIFNETMASK, netmask);
}

/* What one of many that go on from a snapshot is told of a card: none of them may have another's addresses. */
struct card {
    unsigned char mac[6]; /* zeros: it keeps what it has */
    unsigned char prefix, unused;
    unsigned address; /* in network order; 0: it keeps what it has */
};

/* By the names that Linux gives cards: eth0 and so on. */
static void take_cards(const struct card *cards, int n)
{
    struct interface_request request = {.name = "eth0"};
    long fd = SYSCALL(socket, IPV4, DATAGRAMS, 0, 0, 0);
    for (int i = 0; i < n; i++, request.name[3]++) {
        unsigned any = 0;
        for (int k = 0; k < 6; k++)
            any |= cards[i].mac[k];
        if (any) {
            memset(request.rest, 0, sizeof request.rest);
            request.flags = ETHERNET; /* the family, where an address has it */
            memcpy(request.rest + 2, cards[i].mac, sizeof cards[i].mac);
            SYSCALL(ioctl, fd, SIOCSIFHWADDR, &request, 0, 0);
        }
        if (cards[i].address)
            set_network(fd, &request, cards[i].address, cards[i].prefix);
    }
    SYSCALL(close, fd, 0, 0, 0, 0);
}
