#include "watch.h"

#include <string.h>

int corral_finish_store(struct corral_vcpu *v)
{
    const struct kvm_run *run = v->run;
    const struct corral_watches *watches = v->watches;
    uint64_t first = run->mmio.phys_addr, size = run->mmio.len;
    void *host = run->mmio.is_write && size <= sizeof run->mmio.data ? corral_ram_at(v->ram, first, size) : NULL;

    if (!host)
        return corral_finish_mmio(v);
    memcpy(host, run->mmio.data, size);
    for (unsigned i = 0; watches && i < watches->count; i++) {
        const struct corral_watch *watch = &watches->watch[i];
        if (first < watch->gpa + watch->size && watch->gpa < first + size)
            return 0;
    }
    return 1;
}
