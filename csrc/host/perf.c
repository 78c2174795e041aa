/* perf_event_open(2), which has no place in Python's library. */
#define _GNU_SOURCE
#include "perf.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

int corral_perf_open(uint32_t type, uint64_t config, int tid, bool guest_only)
{
    struct perf_event_attr attributes = {
        .size = sizeof attributes,
        .type = type,
        .config = config,
        .exclude_host = guest_only,
        .exclude_hv = 1,
    };
    long fd = syscall(SYS_perf_event_open, &attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}
