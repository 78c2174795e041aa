#include "bus.h"
#include "vcpu.h"

#include <errno.h>
#include <string.h>

/* The first range that does not end before `address`. */
static unsigned search(const struct corral_bus *b, uint64_t address)
{
    unsigned low = 0, high = b->n;
    while (low < high) {
        const unsigned middle = (low + high) / 2;
        if (b->ranges[middle].last < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The range that an access is wholly inside of, NULL where there is none. `size` is not 0. */
static const struct corral_range *find(const struct corral_bus *b, uint64_t address, uint32_t size)
{
    const unsigned at = b ? search(b, address) : 0;
    if (!b || at == b->n)
        return NULL;
    const struct corral_range *range = &b->ranges[at];
    return address >= range->first && size - 1 <= range->last - address ? range : NULL;
}

int corral_bus_claim(struct corral_bus *b, uint64_t first, uint64_t last, corral_register_op op, void *device)
{
    if (last < first || !op)
        return -EINVAL;
    const unsigned at = search(b, first);
    if (at < b->n && b->ranges[at].first <= last)
        return -EEXIST;
    if (b->n == CORRAL_BUS_RANGES)
        return -ENOSPC;
    memmove(&b->ranges[at + 1], &b->ranges[at], (b->n - at) * sizeof b->ranges[0]);
    b->ranges[at] = (struct corral_range){first, last, op, device};
    b->n++;
    return 0;
}

int corral_finish_pio(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    const uint8_t size = run->io.size;
    const bool write = run->io.direction == KVM_EXIT_IO_OUT;
    const struct corral_range *range = find(v->ports, run->io.port, size);

    if (!range)
        return 0;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t done = 0; done < run->io.count; done++, data += size) {
        uint32_t value = 0;
        memcpy(&value, data, size);
        /* A device that wants Python says so for the first element: a string access is not split. */
        if (!range->op(range->device, write, run->io.port - range->first, size, &value))
            return 0;
        if (!write)
            memcpy(data, &value, size);
    }
    return 1;
}

int corral_finish_mmio(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    const uint32_t size = run->mmio.len;
    uint32_t value = 0;

    if (size > sizeof value)
        return 0;
    const struct corral_range *range = find(v->mmio, run->mmio.phys_addr, size);
    if (!range)
        return 0;
    memcpy(&value, run->mmio.data, size);
    if (!range->op(range->device, run->mmio.is_write, run->mmio.phys_addr - range->first, size, &value))
        return 0;
    if (!run->mmio.is_write)
        memcpy(run->mmio.data, &value, size);
    return 1;
}

bool corral_bus_constant(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value)
{
    (void)offset, (void)size;
    if (!write)
        *value = *(const uint32_t *)device;
    return true;
}
