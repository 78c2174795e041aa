/* The first touch of a page, and of one that is written after a fork. pagefault [SECONDS] */
#define _GNU_SOURCE
#include "common.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define MOST 1024 /* pages that are there at once */

static void touching(long count)
{
    while (count > 0) {
        long pages = count < MOST ? count : MOST;
        volatile char *memory =
            mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            fail("mmap");
        madvise((void *)memory, (size_t)pages * PAGE, MADV_NOHUGEPAGE); /* a page a fault, where that is known */
        for (long i = 0; i < pages; i++) {
            memory[i * PAGE] = 1; /* a read before it would be a fault of its own, for the page of zeros */
            if (memory[i * PAGE + 1])
                end(1, "pagefault", "a new page is not empty");
        }
        munmap((void *)memory, (size_t)pages * PAGE);
        count -= pages;
    }
}

/* Seconds a page that a child writes first, of pages that its parent has, too. */
static double copied(void)
{
    int pipe_ends[2];
    double taken = 0;
    char *memory = mmap(NULL, MOST * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || pipe(pipe_ends))
        fail("mmap or pipe");
    madvise(memory, MOST * PAGE, MADV_NOHUGEPAGE);
    memset(memory, 1, MOST * PAGE);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (!child) {
        double start = now();
        for (long i = 0; i < MOST; i++)
            memory[i * PAGE]++;
        taken = (now() - start) / MOST;
        _exit(write(pipe_ends[1], &taken, sizeof taken) != sizeof taken);
    }
    int status;
    if (read(pipe_ends[0], &taken, sizeof taken) != sizeof taken || waitpid(child, &status, 0) < 0 || status)
        end(1, "pagefault", "the child failed");
    if (memory[0] != 1)
        end(1, "pagefault", "what the child wrote is in its parent");
    close(pipe_ends[0]), close(pipe_ends[1]);
    munmap(memory, MOST * PAGE);
    return taken;
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    told("first-touch", one_of(touching, seconds / 2) * 1e9, "ns");
    double values[MOST_BATCHES], until = now() + seconds / 2;
    size_t done = 0;
    while (done < MOST_BATCHES && (done < 3 || now() < until))
        values[done++] = copied();
    qsort(values, done, sizeof *values, by_size);
    told("copy-on-write", values[done / 2] * 1e9, "ns");
    return 0;
}
