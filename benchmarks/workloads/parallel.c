/* All CPUs at once, a thread on each: memory streamed, pointers chased, a small Linpack, each thread with memory
 * that it touched first. What all of them did together. parallel [SECONDS [MODE [CPU...]]]: stream, chase, linpack
 * or all of them; on the CPUs it may run on, or on these */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "common.h"

#define MOST_CPUS 64
#define STREAM (4u << 20) /* doubles: 32 MiB each of three */
#define CHASE (4u << 20)  /* steps: 16 MiB, more than most caches */
#define HOPS (1u << 18)   /* between two looks at the clock */
#define ORDER 192u        /* of the matrix: what a first-level cache does not hold and a second-level one does */

struct worker {
    pthread_t thread;
    int cpu;
    const struct mode *mode;
    double seconds, rate;
};

static pthread_barrier_t ready;
static volatile double sink; /* so that no result is unused */

static void *allocate(size_t size)
{
    void *p = aligned_alloc(64, size);
    if (!p)
        fail("parallel");
    return p;
}

static void *stream_new(void)
{
    double *a = allocate(3 * sizeof *a * STREAM);
    for (size_t i = 0; i < 3 * (size_t)STREAM; i++)
        a[i] = (double)i; /* here, by the thread that uses it: the page is of its node */
    return a;
}

static double stream(void *state)
{
    double *a = state, *b = a + STREAM, *c = b + STREAM;
    for (size_t i = 0; i < STREAM; i++)
        a[i] = b[i] + 3.0 * c[i];
    sink = a[STREAM / 2];
    return 3.0 * sizeof *a * STREAM;
}

/* One cycle through all of it, by Sattolo's shuffle. */
static void *chase_new(void)
{
    uint32_t *next = allocate(sizeof *next * CHASE);
    uint64_t random = 88172645463325252;
    for (uint32_t i = 0; i < CHASE; i++)
        next[i] = i;
    for (uint32_t i = CHASE - 1; i > 0; i--) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uint32_t j = (uint32_t)(random % i), kept = next[i];
        next[i] = next[j];
        next[j] = kept;
    }
    return next;
}

static double chase(void *state)
{
    static __thread uint32_t at;
    const uint32_t *next = state;
    for (unsigned i = 0; i < HOPS; i++)
        at = next[at];
    sink = at;
    return HOPS;
}

struct linpack {
    double original[ORDER][ORDER], matrix[ORDER][ORDER];
};

static void *linpack_new(void)
{
    struct linpack *l = allocate(sizeof *l);
    uint32_t random = 1;
    for (unsigned i = 0; i < ORDER; i++)
        for (unsigned j = 0; j < ORDER; j++) {
            random = random * 1664525u + 1013904223u;
            l->original[i][j] = (double)random / 4294967296.0 + (i == j ? ORDER : 0); /* needs no pivots */
        }
    return l;
}

static double linpack(void *state)
{
    struct linpack *l = state;
    memcpy(l->matrix, l->original, sizeof l->matrix);
    for (unsigned k = 0; k < ORDER; k++)
        for (unsigned i = k + 1; i < ORDER; i++) {
            double factor = l->matrix[i][k] /= l->matrix[k][k];
            for (unsigned j = k + 1; j < ORDER; j++)
                l->matrix[i][j] -= factor * l->matrix[k][j];
        }
    sink = l->matrix[ORDER - 1][ORDER - 1];
    return 2.0 / 3.0 * ORDER * ORDER * ORDER;
}

static const struct mode {
    const char *name, *unit;
    double of; /* so many are one of the unit */
    void *(*new)(void);
    double (*once)(void *state); /* returns what it did: bytes, hops, floating-point operations */
} modes[] = {
    {"stream", "MB/s", 1e6, stream_new, stream},
    {"chase", "Mhops/s", 1e6, chase_new, chase},
    {"linpack", "GFLOP/s", 1e9, linpack_new, linpack},
};

static void *run(void *argument)
{
    struct worker *w = argument;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)w->cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0)
        fail("a thread's CPU");
    void *state = w->mode->new();
    w->mode->once(state); /* warm */
    pthread_barrier_wait(&ready);
    double done = 0, start = now(), elapsed;
    do
        done += w->mode->once(state);
    while ((elapsed = now() - start) < w->seconds);
    w->rate = done / elapsed;
    free(state);
    return NULL;
}

static void all_at_once(const struct mode *mode, double seconds, const int *cpus, unsigned n)
{
    static struct worker workers[MOST_CPUS];
    pthread_barrier_init(&ready, NULL, n);
    for (unsigned i = 0; i < n; i++) {
        workers[i] = (struct worker){.cpu = cpus[i], .mode = mode, .seconds = seconds};
        errno = pthread_create(&workers[i].thread, NULL, run, &workers[i]);
        if (errno)
            fail("a thread");
    }
    double rate = 0;
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
        rate += workers[i].rate;
    }
    pthread_barrier_destroy(&ready);
    told(mode->name, rate / mode->of, mode->unit);
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    int cpus[MOST_CPUS];
    unsigned n = 0;
    for (int at = 3; at < count && n < MOST_CPUS; at++)
        cpus[n++] = atoi(words[at]);
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine) < 0)
        fail("parallel");
    for (int cpu = 0; count <= 3 && cpu < CPU_SETSIZE && n < MOST_CPUS; cpu++)
        if (CPU_ISSET((unsigned)cpu, &mine))
            cpus[n++] = cpu;
    unsigned ran = 0;
    for (const struct mode *mode = modes; mode < modes + sizeof modes / sizeof *modes; mode++)
        if (count < 3 || !strcmp(words[2], mode->name))
            all_at_once(mode, seconds, cpus, n), ran++;
    if (!ran)
        end(1, words[0], "its second argument is stream, chase or linpack");
    return 0;
}
