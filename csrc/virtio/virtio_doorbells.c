#include "virtio_doorbells.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

int corral_doorbells_take(const struct corral_doorbells *d)
{
    for (unsigned i = 0; i < d->n; i++) {
        struct kvm_ioeventfd request = {.datamatch = i,
                                        .addr = d->gpa,
                                        .len = sizeof(uint32_t),
                                        .fd = d->fd[i],
                                        .flags = d->any ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH};
        if (ioctl(d->vm_fd, KVM_IOEVENTFD, &request) < 0)
            return -errno;
    }
    return 0;
}

bool corral_doorbells_ring(void *device, bool write_, uint64_t offset, uint8_t size, uint32_t *value)
{
    struct corral_doorbells *d = device;
    const uint32_t index = d->any ? 0 : *value;
    const uint64_t one = 1;
    if (!write_ || offset || size != sizeof *value || index >= d->n)
        return false;
    /* Cannot fail but for a counter that is full of rings that are not answered yet. */
    if (write(d->fd[index], &one, sizeof one) < 0)
        return true;
    if (__atomic_add_fetch(&d->rings, 1, __ATOMIC_RELAXED) == CORRAL_DOORBELLS_LATE)
        corral_doorbells_take(d); /* where that fails exits go on to ring */
    return true;
}
