/* Extended attributes: a fid stands for one that is read, or written, and set when it is whole. */
#ifndef P9_XATTRS_H
#define P9_XATTRS_H

#include "fids.h"

#include <stdint.h>
#include <sys/types.h>

/* Bytes of the value; -1 and errno. */
ssize_t p9_xattr_read(const struct p9_fid *fid, uint8_t *to, uint32_t count, uint64_t offset);
ssize_t p9_xattr_write(const struct p9_fid *fid, const uint8_t *data, uint32_t count, uint64_t offset);

void p9_xattr_end(struct p9_xattr *xattr);

#endif
