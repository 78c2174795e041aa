/* The registers of a VM's devices that C answers: a table for each of its two address spaces, which all its vCPUs
 * share. It is part of the table that Python has (core/bus.py), where a device is claimed; what C does not answer
 * is Python's. */
#ifndef CORRAL_BUS_H
#define CORRAL_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct corral_vcpu;

/* --- for Python --- */

#define CORRAL_BUS_RANGES 64

/* A register access finished in C; `offset` is from the range's first address. False: not finished here, Python
 * shall have it. */
typedef bool (*corral_register_op)(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value);

struct corral_range {
    uint64_t first, last;
    corral_register_op op;
    void *device;
};

/* Changed only while no vCPU runs. */
struct corral_bus {
    unsigned n;
    struct corral_range ranges[CORRAL_BUS_RANGES]; /* ascending, and none overlaps another */
};

/* Gives first..last, both included, to a device. 0, -ENOSPC, -EINVAL (empty), -EEXIST (overlaps). */
int corral_bus_claim(struct corral_bus *b, uint64_t first, uint64_t last, corral_register_op op, void *device);

/* A device without state: reads give the constant that `device` points to, writes are dropped. */
bool corral_bus_constant(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value);

/* Finishers (vcpu.h) of KVM_EXIT_IO and KVM_EXIT_MMIO, by the tables of the vCPU; MMIO of 8 bytes goes to Python.
 */
int corral_finish_pio(struct corral_vcpu *v);
int corral_finish_mmio(struct corral_vcpu *v);

#endif
