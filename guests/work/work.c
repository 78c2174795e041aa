/* Work for a guest and its host alike, measured where it runs: memory streamed, pointers chased, a small Linpack.
 *
 * work MODE SECONDS CPU...: a thread on each of these CPUs. Prints "MODE N" with N a second: bytes, hops or
 * floating-point operations, of all threads together. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_CPUS 64
#define STREAM (4u << 20) /* doubles: 32 MiB each of three */
#define CHASE (4u << 20)  /* steps: 16 MiB, more than most caches */
#define HOPS (1u << 18)   /* between two looks at the clock */
#define ORDER 192u        /* of the matrix: what a first-level cache does not hold and a second-level one does */

struct worker {
    pthread_t thread;
    int cpu;
    double seconds, rate;
    double (*once)(void *state); /* returns what it did */
    void *state;
};

static pthread_barrier_t ready;
static volatile double sink; /* so that no result is unused */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *allocate(size_t size)
{
    void *p = aligned_alloc(64, size);
    if (!p) {
        perror("work");
        exit(1);
    }
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

static const struct {
    const char *name;
    void *(*new)(void);
    double (*once)(void *);
} modes[] = {{"stream", stream_new, stream}, {"chase", chase_new, chase}, {"linpack", linpack_new, linpack}};

static void *run(void *argument)
{
    struct worker *w = argument;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((unsigned)w->cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0) {
        fprintf(stderr, "work: no CPU %d\n", w->cpu);
        exit(1);
    }
    void *state = ((void *(*)(void))w->state)();
    w->once(state); /* warm */
    pthread_barrier_wait(&ready);
    double done = 0, start = now(), elapsed;
    do
        done += w->once(state);
    while ((elapsed = now() - start) < w->seconds);
    w->rate = done / elapsed;
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[MOST_CPUS];
    unsigned mode = 0, n = (unsigned)argc - 3;
    while (argc > 3 && mode < sizeof modes / sizeof *modes && strcmp(argv[1], modes[mode].name))
        mode++;
    if (argc < 4 || n > MOST_CPUS || mode == sizeof modes / sizeof *modes) {
        fprintf(stderr, "usage: work stream|chase|linpack SECONDS CPU...\n");
        return 2;
    }
    pthread_barrier_init(&ready, NULL, n);
    for (unsigned i = 0; i < n; i++) {
        struct worker *w = &workers[i];
        *w = (struct worker){.cpu = atoi(argv[3 + i]),
                             .seconds = atof(argv[2]),
                             .once = modes[mode].once,
                             .state = (void *)modes[mode].new};
        if (pthread_create(&w->thread, NULL, run, w)) {
            perror("work");
            return 1;
        }
    }
    double rate = 0;
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
        rate += workers[i].rate;
    }
    printf("%s %.0f\n", argv[1], rate);
    return 0;
}
