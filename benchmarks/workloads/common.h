/* What the workloads share: a clock, batches and their median, lines that say what came out. */
#ifndef CORRAL_WORKLOAD_H
#define CORRAL_WORKLOAD_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOT_HERE 77 /* exit status: it cannot be measured in this place, and the last line says why */
#define MOST_BATCHES 101

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void told(const char *metric, double value, const char *unit)
{
    printf("%s %.6g %s\n", metric, value, unit);
    fflush(stdout);
}

__attribute__((noreturn)) static inline void end(int status, const char *what, const char *why)
{
    printf("%s: %s\n", what, why);
    exit(status);
}

/* The last call failed. */
__attribute__((noreturn)) static inline void fail(const char *what)
{
    end(1, what, strerror(errno));
}

static inline int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Of values in order: the one that so large a share of them does not exceed. */
static inline double quantile(const double *sorted, size_t count, double share)
{
    size_t at = (size_t)(share * (double)count);
    return sorted[at < count ? at : count - 1];
}

/* Seconds that one operation takes: the median over batches, each of `work(count)` for as many as take long enough
 * for the clock, until about `seconds` are over. At least three batches. */
static inline double one_of(void (*work)(long count), double seconds)
{
    long count = 1;
    double taken;
    for (;; count *= 2) {
        double start = now();
        work(count);
        taken = now() - start;
        if (taken >= seconds / 40 || count > 1l << 40)
            break;
    }
    double batches[MOST_BATCHES], until = now() + seconds;
    size_t done = 0;
    while (done < MOST_BATCHES && (done < 3 || now() < until)) {
        double start = now();
        work(count);
        batches[done++] = (now() - start) / (double)count;
    }
    qsort(batches, done, sizeof *batches, by_size);
    return batches[done / 2];
}

/* The number that a person gives as the first argument, or what it is without one. */
static inline double argument(int count, char **words, double otherwise)
{
    double value = count > 1 ? atof(words[1]) : otherwise;
    if (!(value > 0 && value < 1e6))
        end(1, words[0], "its argument is a number of seconds");
    return value;
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

#endif
