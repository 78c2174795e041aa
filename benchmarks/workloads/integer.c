/* Whole numbers: hashing and sorting, in memory that the first caches hold. integer [SECONDS] */
#include "common.h"

#define KEYS 4096

static uint32_t keys[KEYS], sorted[KEYS];
static volatile uint64_t sink;

static uint64_t hash(uint64_t state, const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        state = (state ^ words[i]) * 1099511628211u; /* FNV-1a's prime */
    return state;
}

static void hashing(long count)
{
    for (long i = 0; i < count; i++)
        sink = hash(sink, keys, KEYS);
}

static int ascending(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void sorting(long count)
{
    for (long i = 0; i < count; i++) {
        memcpy(sorted, keys, sizeof keys);
        qsort(sorted, KEYS, sizeof *sorted, ascending);
        sink += sorted[KEYS / 2];
    }
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    uint64_t random = 88172645463325252;
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = (uint32_t)next_random(&random);
    told("hash", KEYS * sizeof *keys / one_of(hashing, seconds / 2) / 1e6, "MB/s");
    told("sort", KEYS / one_of(sorting, seconds / 2) / 1e6, "Mkey/s");
    for (size_t i = 1; i < KEYS; i++)
        if (sorted[i - 1] > sorted[i])
            end(1, "integer", "what was sorted is not in order");
    return 0;
}
