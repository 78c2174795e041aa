/* The Internet checksum (RFC 1071) over segments of any length. */
#ifndef CORRAL_NET_CHECKSUM_H
#define CORRAL_NET_CHECKSUM_H

#include <stdint.h>
#include <sys/uio.h>

/* Of all that the segments hold behind their first `skip` bytes, as it stands in memory. Never 0, which UDP takes
 * for "none". */
uint16_t corral_net_checksum(const struct iovec *iov, unsigned n, uint32_t skip);

#endif
