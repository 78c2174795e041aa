/* Guest memory on the host's nodes: mbind(2) and madvise(2), which have no place in Python's library. */
#define _GNU_SOURCE
#include "numa.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MOST_NODES 1024
#define BITS (8 * sizeof(unsigned long))

int corral_memory_bind(uint64_t address, uint64_t length, unsigned node, bool strict)
{
    unsigned long nodes[MOST_NODES / BITS];
    if (node >= MOST_NODES)
        return -EINVAL;
    memset(nodes, 0, sizeof nodes);
    nodes[node / BITS] = 1ul << node % BITS;
    /* The kernel counts one bit less than it is told of. */
    long result =
        syscall(SYS_mbind, address, length, strict ? MPOL_BIND : MPOL_PREFERRED, nodes, MOST_NODES + 1ul, 0);
    return result < 0 ? -errno : 0;
}

int corral_memory_populate(uint64_t address, uint64_t length)
{
    while (madvise((void *)(uintptr_t)address, length, MADV_POPULATE_WRITE) < 0)
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    return 0;
}
