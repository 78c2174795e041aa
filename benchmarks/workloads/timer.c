/* How late a sleep of a millisecond ends, and what it costs to ask for the time. timer [SECONDS] */
#include "common.h"

#define SLEEP_NS 1000000
#define MOST 20000

static volatile double sink;

static void asking(long count)
{
    while (count--)
        sink = now();
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    told("clock", one_of(asking, seconds / 4) * 1e9, "ns");
    static double late[MOST];
    size_t done = 0;
    struct timespec at;
    double until = now() + seconds * 3 / 4;
    while (done < MOST && (done < 20 || now() < until)) {
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_nsec += SLEEP_NS;
        if (at.tv_nsec >= 1000000000)
            at.tv_nsec -= 1000000000, at.tv_sec++;
        if ((errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)))
            fail("clock_nanosleep");
        late[done++] = now() - ((double)at.tv_sec + (double)at.tv_nsec / 1e9);
    }
    qsort(late, done, sizeof *late, by_size);
    if (late[0] < -1e-6)
        end(1, words[0], "a sleep ended before its time");
    told("late-p50", quantile(late, done, 0.5) * 1e6, "us");
    told("late-p99", quantile(late, done, 0.99) * 1e6, "us");
    told("late-most", late[done - 1] * 1e6, "us");
    return 0;
}
