#include "net_dump.h"
#include "vector_io.h"

#include <stdint.h>
#include <time.h>

#define SECOND 1000000000ull

/* Enhanced Packet Block: what is before the frame, and what is behind it with a flag that tells its direction. */
struct before {
    uint32_t type, size, interface, time_high, time_low, kept, whole;
};

struct after {
    uint32_t flags_option, flags, end_of_options, size;
};

bool corral_net_dump(int fd, uint64_t *left, bool sent, const struct iovec *iov, unsigned n, size_t skip)
{
    static const uint8_t padding[3];
    struct iovec out[CORRAL_NET_DUMP_SEGMENTS + 3];
    unsigned n_out = 1;
    uint32_t size = 0;
    if (n > CORRAL_NET_DUMP_SEGMENTS)
        return false;
    for (unsigned i = 0; i < n; i++) {
        size_t part = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        if (part < iov[i].iov_len)
            out[n_out++] = (struct iovec){(uint8_t *)iov[i].iov_base + part, iov[i].iov_len - part};
        size += iov[i].iov_len - part;
        skip -= part;
    }
    uint32_t pad = -size & 3;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t time = now.tv_sec * SECOND + now.tv_nsec;
    struct before before = {.type = 6, .time_high = time >> 32, .time_low = time, .kept = size, .whole = size};
    struct after after = {.flags_option = 2 | 4 << 16, .flags = sent ? 2 : 1};
    before.size = after.size = sizeof before + size + pad + sizeof after;
    if (before.size > *left)
        return false;
    *left -= before.size;
    out[0] = (struct iovec){&before, sizeof before};
    out[n_out++] = (struct iovec){(void *)padding, pad};
    out[n_out++] = (struct iovec){&after, sizeof after};
    return corral_writev(fd, out, n_out, CORRAL_HERE, 0) == (ssize_t)before.size;
}
