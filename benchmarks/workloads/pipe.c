/* A pipe between two processes: how much goes through, on whatever CPUs they are. pipe [SECONDS] */
#define _GNU_SOURCE
#include "common.h"

#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 65536

static int ends[2], sums[2];
static unsigned char block[BLOCK];

static void sending(long count)
{
    while (count--)
        for (size_t done = 0; done < BLOCK;) {
            ssize_t sent = write(ends[1], block + done, BLOCK - done);
            if (sent <= 0)
                fail("pipe");
            done += (size_t)sent;
        }
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = (unsigned char)(i * 7);
    if (pipe(ends) || pipe(sums))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (!child) {
        static unsigned char received[BLOCK];
        size_t at = 0;
        int wrong = 0;
        ssize_t got;
        close(ends[1]);
        while ((got = read(ends[0], received, BLOCK)) > 0) {
            wrong |= received[0] != (unsigned char)(at % BLOCK * 7); /* the first byte of each piece, cheaply */
            at += (size_t)got;
        }
        _exit(wrong || at % BLOCK);
    }
    close(ends[0]);
    told("pipe", BLOCK / one_of(sending, seconds) / 1e6, "MB/s");
    close(ends[1]);
    int status;
    if (waitpid(child, &status, 0) != child || status)
        end(1, words[0], "what came out is not what went in");
    return 0;
}
