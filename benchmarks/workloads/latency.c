/* Memory latency: one pointer after the other, in a random circle through so many bytes. latency [SECONDS] */
#include "common.h"

static uint32_t *next;
static volatile uint32_t sink;

static void chasing(long count)
{
    uint32_t at = sink;
    while (count--)
        at = next[at];
    sink = at;
}

/* One circle through all of them, by Sattolo's shuffle; checked by walking it. */
static void shuffle(uint32_t count)
{
    uint64_t random = 88172645463325252;
    for (uint32_t i = 0; i < count; i++)
        next[i] = i;
    for (uint32_t i = count - 1; i; i--) {
        uint32_t j = (uint32_t)(next_random(&random) % i), kept = next[i];
        next[i] = next[j];
        next[j] = kept;
    }
    uint32_t at = 0, steps = 0;
    do
        at = next[at], steps++;
    while (at);
    if (steps != count)
        end(1, "latency", "the circle is broken: memory does not keep what is written");
    sink = 0;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        size_t kib;
    } sizes[] = {{"latency-16K", 16}, {"latency-256K", 256}, {"latency-4M", 4096}, {"latency-32M", 32768}};
    double seconds = argument(count, words, 1) / 4;
    next = aligned_alloc(64, 32 << 20);
    if (!next)
        fail("latency");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        shuffle((uint32_t)(sizes[i].kib * 1024 / sizeof *next));
        told(sizes[i].name, one_of(chasing, seconds) * 1e9, "ns");
    }
    return 0;
}
