/* Memory bandwidth: arrays larger than caches, copied, scaled, added, and both (STREAM's four kernels).
 * stream [SECONDS [MIB]]: so many MiB an array, of three */
#include "common.h"

static double *a, *b, *c;
static size_t length;

static void copying(long count)
{
    while (count--) {
        for (size_t i = 0; i < length; i++)
            c[i] = a[i];
        __asm__ volatile("" ::: "memory"); /* each round is done */
    }
}

static void scaling(long count)
{
    while (count--) {
        for (size_t i = 0; i < length; i++)
            b[i] = 3.0 * c[i];
        __asm__ volatile("" ::: "memory");
    }
}

static void adding(long count)
{
    while (count--) {
        for (size_t i = 0; i < length; i++)
            c[i] = a[i] + b[i];
        __asm__ volatile("" ::: "memory");
    }
}

static void both(long count)
{
    while (count--) {
        for (size_t i = 0; i < length; i++)
            a[i] = b[i] + 3.0 * c[i];
        __asm__ volatile("" ::: "memory");
    }
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1) / 4;
    size_t mib = count > 2 ? (size_t)atol(words[2]) : 16;
    if (mib < 1 || mib > 4096)
        end(1, words[0], "an array has 1 to 4096 MiB");
    length = (mib << 20) / sizeof *a;
    a = aligned_alloc(64, mib << 20), b = aligned_alloc(64, mib << 20), c = aligned_alloc(64, mib << 20);
    if (!a || !b || !c)
        fail("stream");
    for (size_t i = 0; i < length; i++)
        a[i] = 1, b[i] = 2, c[i] = 0;
    double bytes = (double)(mib << 20);
    copying(1);
    if (c[length / 2] != 1)
        end(1, words[0], "what was copied is not the same");
    told("copy", 2 * bytes / one_of(copying, seconds) / 1e6, "MB/s");
    told("scale", 2 * bytes / one_of(scaling, seconds) / 1e6, "MB/s");
    told("add", 3 * bytes / one_of(adding, seconds) / 1e6, "MB/s");
    told("triad", 3 * bytes / one_of(both, seconds) / 1e6, "MB/s");
    if (b[0] != 3 || c[length - 1] != 4 || a[0] != 3 + 3.0 * 4)
        end(1, words[0], "the sums are wrong");
    return 0;
}
