/* A system call that does next to nothing, and one that copies. syscall [SECONDS] */
#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int zero, null;
static char buffer[4096];

static void asking(long count)
{
    while (count--)
        if (syscall(SYS_getppid) < 0)
            fail("getppid");
}

static void writing(long count)
{
    while (count--)
        if (write(null, buffer, sizeof buffer) != sizeof buffer)
            fail("/dev/null");
}

static void reading(long count)
{
    while (count--)
        if (read(zero, buffer, sizeof buffer) != sizeof buffer)
            fail("/dev/zero");
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1) / 3;
    told("getppid", one_of(asking, seconds) * 1e9, "ns");
    null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
    if (null < 0 || zero < 0)
        end(NOT_HERE, words[0], "there is no /dev/null or /dev/zero here");
    told("write-null", one_of(writing, seconds) * 1e9, "ns");
    told("read-zero", one_of(reading, seconds) * 1e9, "ns");
    return 0;
}
