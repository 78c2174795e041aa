/* Guest memory on the host's nodes. */
#ifndef CORRAL_NUMA_H
#define CORRAL_NUMA_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* Pages of [address, address + length), whole pages, that are not there yet shall come from `node`: from there or
 * not at all when `strict`, else from there first. -errno of mbind(2). */
int corral_memory_bind(uint64_t address, uint64_t length, unsigned node, bool strict);

/* Has every page of it made now. -errno of madvise(2): ENOMEM, or EFAULT where the pool of huge pages is empty. */
int corral_memory_populate(uint64_t address, uint64_t length);

#endif
