/* A process made and ended; and one that becomes another program, this one, which ends at once. forkexec [SECONDS]
 */
#define _GNU_SOURCE
#include "common.h"

#include <sys/wait.h>
#include <unistd.h>

#define BORN "--born"

static char *own_path;

static void ended(pid_t child)
{
    int status;
    if (child < 0)
        fail("fork");
    if (waitpid(child, &status, 0) != child || status)
        end(1, "forkexec", "the child failed");
}

static void forking(long count)
{
    while (count--) {
        pid_t child = fork();
        if (!child)
            _exit(0);
        ended(child);
    }
}

static void becoming(long count)
{
    while (count--) {
        pid_t child = vfork();
        if (!child) {
            execlp(own_path, own_path, BORN, (char *)NULL);
            _exit(1);
        }
        ended(child);
    }
}

int main(int count, char **words)
{
    if (count == 2 && !strcmp(words[1], BORN))
        return 0;
    double seconds = argument(count, words, 1) / 2;
    own_path = words[0];
    told("fork", one_of(forking, seconds) * 1e6, "us");
    told("exec", one_of(becoming, seconds) * 1e6, "us");
    return 0;
}
