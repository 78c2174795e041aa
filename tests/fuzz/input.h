/* What the harnesses share: the bytes of an input, and what must hold. */
#ifndef CORRAL_FUZZ_INPUT_H
#define CORRAL_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define require(condition)                                                                                        \
    do {                                                                                                          \
        if (!(condition)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                         \
            abort();                                                                                              \
        }                                                                                                         \
    } while (0)

struct input {
    const uint8_t *at, *end;
};

/* A number of so many bytes; what is missing at the end counts as 0. */
static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && in->at < in->end; i++)
        value |= (uint64_t)*in->at++ << 8 * i;
    return value;
}

#endif
