/* The host's performance counters, of one thread. */
#ifndef CORRAL_PERF_H
#define CORRAL_PERF_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

/* A descriptor from which the count is read, 8 bytes; or -errno of perf_event_open(2): ENOENT where the host has
 * no such counter, EACCES where it does not let us. `guest_only`: while the thread is in a guest. */
int corral_perf_open(uint32_t type, uint64_t config, int tid, bool guest_only);

#endif
