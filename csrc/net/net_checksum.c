#include "net_checksum.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The sum of 32-bit words has the same remainder as that of 16-bit ones, and its carries are kept in the upper
 * half. */
static uint64_t sum(const uint8_t *at, size_t size)
{
    uint64_t total = 0;
    for (; size >= 16; at += 16, size -= 16) {
        uint32_t words[4];
        memcpy(words, at, sizeof words);
        total += (uint64_t)words[0] + words[1] + words[2] + words[3];
    }
    for (; size >= 2; at += 2, size -= 2) {
        uint16_t word;
        memcpy(&word, at, sizeof word);
        total += word;
    }
    return size ? total + *at : total;
}

static uint16_t fold(uint64_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return total;
}

uint16_t corral_net_checksum(const struct iovec *iov, unsigned n, uint32_t skip)
{
    uint64_t total = 0;
    bool odd = false; /* how many bytes were summed so far */
    for (unsigned i = 0; i < n; i++) {
        size_t size = iov[i].iov_len;
        if (skip >= size) {
            skip -= size;
            continue;
        }
        uint16_t part = fold(sum((const uint8_t *)iov[i].iov_base + skip, size - skip));
        total += odd ? (uint16_t)(part << 8 | part >> 8) : part;
        odd ^= (size - skip) & 1;
        skip = 0;
    }
    uint16_t folded = ~fold(total);
    return folded ? folded : 0xffff;
}
