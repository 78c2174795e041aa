/* The least that a program can do: a line, at once. What starting, holding and ending cost is measured by it.
 *
 *     hello              prints its line and ends
 *     hello stay         prints its line and stays until it is killed
 *     hello PATH MIB     writes so many MiB, all different, to a file, prints its line and stays */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int fill(const char *path, long mib)
{
    static unsigned long block[1 << 17]; /* 1 MiB */
    unsigned long state = 0x9e3779b97f4a7c15;
    int is_device = !strncmp(path, "/dev/", 5); /* one that is not there must not become a file */
    int file = open(path, O_WRONLY | (is_device ? 0 : O_CREAT | O_TRUNC), 0644);
    if (file < 0)
        return fail(path);
    for (long done = 0; done < mib; done++) {
        for (size_t at = 0; at < sizeof block / sizeof *block; at++) {
            state = state * 6364136223846793005 + 1442695040888963407; /* Knuth's, MMIX */
            block[at] = state;
        }
        if (write(file, block, sizeof block) != (ssize_t)sizeof block)
            return fail(path);
    }
    if (fsync(file) || close(file))
        return fail(path);
    return 0;
}

int main(int count, char **words)
{
    if (count == 3 && fill(words[1], atol(words[2])))
        return 1;
    static const char line[] = "hello 1 line\n";
    if (write(STDOUT_FILENO, line, sizeof line - 1) < 0)
        return 1;
    if (count == 3 || (count == 2 && !strcmp(words[1], "stay")))
        for (;;)
            pause();
    return count != 1;
}
