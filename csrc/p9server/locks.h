/* Locks of ranges of files (Tlock), between the guest and all others who use them.
 *
 * To the host all of a guest is one: between its own programs the guest's kernel has decided already, and it may
 * say "locked" of the second before "unlocked" of the first. So there is one open file description for each locked
 * file, which has the strongest lock that any of the guest's processes has at each byte. */
#ifndef P9_LOCKS_H
#define P9_LOCKS_H

#include "fids.h"

/* What was locked by this fid is so no longer. */
void p9_locks_of_fid_end(const struct p9_fid *fid);

#endif
