/* A program of the guest with AF_VSOCK, without Corral's agent: it echoes what comes to a port, or connects to one of
 * the host and sends its input there.
 *
 * vsock_peer listen PORT | vsock_peer connect PORT | vsock_peer flood PORT BYTES */
#define _GNU_SOURCE
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char bytes[65536];

static void copy(int from, int to)
{
    for (ssize_t n; (n = read(from, bytes, sizeof bytes)) > 0;)
        for (ssize_t done = 0, part; done < n; done += part)
            if ((part = write(to, bytes + done, n - done)) <= 0) {
                perror("write");
                exit(1);
            }
}

int main(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = argc > 2 ? atoi(argv[2]) : 0};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (argc < 3 || fd < 0)
        return perror("socket"), 1;
    if (strcmp(argv[1], "listen") == 0) {
        address.svm_cid = VMADDR_CID_ANY;
        if (bind(fd, (void *)&address, sizeof address) < 0 || listen(fd, 1024) < 0)
            return perror("bind"), 1;
        puts("listening");
        fflush(stdout);
        for (int one; (one = accept(fd, NULL, NULL)) >= 0;) {
            if (fork() == 0) {
                copy(one, one);
                return 0;
            }
            close(one);
        }
        return perror("accept"), 1;
    }
    address.svm_cid = VMADDR_CID_HOST;
    if (connect(fd, (void *)&address, sizeof address) < 0)
        return perror("connect"), 1;
    if (strcmp(argv[1], "flood") == 0) {
        for (long left = atol(argv[3]), n; left > 0; left -= n)
            if ((n = write(fd, bytes, left < (long)sizeof bytes ? left : (long)sizeof bytes)) <= 0)
                return perror("write"), 1;
        return 0;
    }
    copy(0, fd);
    shutdown(fd, SHUT_WR);
    copy(fd, 1);
    return 0;
}
