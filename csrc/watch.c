#include "watch.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define DR6_BREAKPOINTS 0xfu
#define DR6_STEP (1u << 14)

int corral_finish_watched(struct corral_vcpu *v)
{
    const struct corral_watches *watches = v->watches;
    uint64_t dr6 = v->run->debug.arch.dr6;

    if (!watches || (dr6 & DR6_BREAKPOINTS) || !(dr6 & DR6_STEP))
        return 0;
    for (unsigned i = 0; i < watches->count; i++) {
        const struct corral_watch *watch = &watches->watch[i];
        if (memcmp(watch->host, watch->old, watch->size) != 0)
            return 0;
    }
    for (unsigned i = 0; i < watches->stop_count; i++)
        if (v->run->debug.arch.pc == watches->stops[i])
            return 0;
    if (watches->again && ioctl(v->fd, KVM_SET_GUEST_DEBUG, watches->again) < 0)
        return -errno;
    return 1;
}
