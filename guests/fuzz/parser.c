/* A target of `corral fuzz` with a planted bug: a parser of records, each of a kind, a length and so many bytes.
 *
 * clang -O1 -g -static -fno-omit-frame-pointer -fsanitize-coverage=trace-pc-guard -c parser.c
 * clang -O1 -static parser.o fuzzed.c -o parser
 *
 * With AFL (defined) it is one of afl-clang-fast's, for a comparison: see benchmarks/fuzzing.py. */
#include <stdint.h>
#include <string.h>

int parse(const uint8_t *data, uint32_t length);

struct name {
    char text[16];
    volatile unsigned *counter;
};

static volatile unsigned names, sums, others;

static void add_name(const uint8_t *bytes, uint32_t length)
{
    struct name name = {.counter = &names};
    memcpy(name.text, bytes, length); /* the bug: `length` may be up to 255 */
    ++*name.counter;
}

static void add_sum(const uint8_t *bytes, uint32_t length)
{
    for (uint32_t at = 0; at < length; at++)
        sums += bytes[at];
}

int parse(const uint8_t *data, uint32_t length)
{
    uint32_t at = 4, records = 0;
    if (length < 4 || data[0] != 'R' || data[1] != 'E' || data[2] != 'C' || data[3] > 3)
        return -1;
    while (at + 2 <= length) {
        uint32_t kind = data[at], size = data[at + 1];
        at += 2;
        if (size > length - at)
            return -1;
        if (kind == 'n')
            add_name(data + at, size);
        else if (kind == 's')
            add_sum(data + at, size);
        else
            others++;
        at += size;
        records++;
    }
    return (int)records;
}
