/* readv, writev, preadv and pwritev in two system calls, as the jail's table has them. The C library takes
 * several: another one where there are no flags. */
#ifndef CORRAL_VECTOR_IO_H
#define CORRAL_VECTOR_IO_H

#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CORRAL_HERE (-1l) /* as an offset: where the descriptor is; of pipes and sockets the only one */

static inline ssize_t corral_readv(int fd, const struct iovec *iov, unsigned n, int64_t offset)
{
    return syscall(SYS_preadv2, fd, iov, n, offset, offset < 0 ? -1l : 0l, 0);
}

static inline ssize_t corral_writev(int fd, const struct iovec *iov, unsigned n, int64_t offset, int flags)
{
    return syscall(SYS_pwritev2, fd, iov, n, offset, offset < 0 ? -1l : 0l, flags);
}

#endif
