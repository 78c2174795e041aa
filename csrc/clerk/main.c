/* The clerk, as long as nothing is asked of it: a small process that waits beside the VMM, started before there is
 * a guest.
 *
 *   _corral_clerk PROGRAM WORDS...
 *
 * When the VMM asks for the first time it starts PROGRAM, which is Python, confines itself (jail/clerk.py in
 * src/corral), and reads what was asked. This process reads nothing that comes from a guest. When no process has
 * the other end of descriptor 3 any more, the VMM has ended: then it removes what that cannot remove from within
 * its jail. Descriptor 6 has the list, from before the jail: paths of files and of empty folders, each with a zero
 * behind it. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define QUESTIONS 3
#define TO_REMOVE 6    /* the last of its descriptors */
#define MOST 65536     /* bytes of the list: what a pipe holds */
#define LOOKS 200      /* for a folder's last process to be gone; */
#define GLANCE 5000000 /* ns between them */

extern char **environ;

/* Whether there is something to read; false: the other end is closed. */
static bool is_asked(struct pollfd *questions)
{
    while (poll(questions, 1, -1) < 0)
        ;
    return questions->revents & POLLIN;
}

static void start(char **words)
{
    pid_t child;
    const int error = posix_spawn(&child, words[0], NULL, NULL, words, environ);
    if (error)
        fprintf(stderr, "corral: no report: %s: %s\n", words[0], strerror(error));
    else
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    close(4); /* answers: a second question finds this end closed */
}

static void remove_path(const char *path)
{
    const struct timespec glance = {0, GLANCE};
    if (unlink(path) == 0 || (errno != EISDIR && errno != EPERM))
        return;
    for (int i = 0; i < LOOKS && rmdir(path) < 0 && errno == EBUSY; i++)
        nanosleep(&glance, NULL);
}

static void remove_listed(void)
{
    static char list[MOST];
    size_t have = 0;
    ssize_t n;
    while (have < sizeof list && (n = read(TO_REMOVE, list + have, sizeof list - have)) > 0)
        have += n;
    for (char *at = list, *end; (end = memchr(at, 0, list + have - at)); at = end + 1)
        remove_path(at);
}

int main(int argc, char **argv)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE}; /* its end is the VMM's */
    struct pollfd questions = {.fd = QUESTIONS, .events = POLLIN};
    sigset_t none;
    if (argc < 2) {
        fputs("usage: _corral_clerk PROGRAM WORDS...\n", stderr);
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* the thread that started it had all blocked */
    close_range(TO_REMOVE + 1, ~0u, 0);
    prctl(PR_SET_NAME, "corral-clerk");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    if (is_asked(&questions)) {
        start(argv + 1);
        questions.events = 0;
        is_asked(&questions);
    }
    remove_listed();
    return EXIT_SUCCESS;
}
