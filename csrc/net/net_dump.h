/* Frames in a file, as Wireshark reads them: blocks of pcapng (draft-ietf-opsawg-pcapng, section 4.3). What comes
 * before the first of them is written by who opens the file. */
#ifndef CORRAL_NET_DUMP_H
#define CORRAL_NET_DUMP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define CORRAL_NET_DUMP_SEGMENTS 260 /* of a frame */

/* Adds a frame, which is what the segments hold behind their first `skip` bytes. `left`: how many bytes the file
 * may take yet. False: it takes no more. */
bool corral_net_dump(int fd, uint64_t *left, bool sent, const struct iovec *iov, unsigned n, size_t skip);

#endif
