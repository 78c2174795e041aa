/* Where a vCPU is, now and then: samples that its thread takes when it is nudged, and one reader empties. */
#ifndef CORRAL_SAMPLER_H
#define CORRAL_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

struct corral_vcpu;

#define CORRAL_SAMPLE_STACK 2048

struct corral_sample {
    uint64_t time; /* CLOCK_MONOTONIC, ns */
    uint64_t rip;  /* linear */
    uint64_t rsp, rbp, cr3;
    uint8_t cpl;
    uint8_t halted;
    uint16_t stack_size; /* bytes of `stack` that are there: from RSP on, as far as it is mapped */
    uint8_t stack[CORRAL_SAMPLE_STACK];
};

struct corral_sampler;

/* For `size` samples, a power of two. NULL with errno. */
struct corral_sampler *corral_sampler_create(uint32_t size);
void corral_sampler_destroy(struct corral_sampler *sampler);

/* Asks the vCPU for a sample, from any thread. */
void corral_sampler_request(struct corral_vcpu *v);

/* Moves the oldest sample to *sample; false: there is none. One thread at a time. */
bool corral_sampler_next(struct corral_sampler *sampler, struct corral_sample *sample);

/* Samples that found no room, so far. */
uint64_t corral_sampler_lost(const struct corral_sampler *sampler);

/* --- for C alone --- */

/* For the run loop, where a sampler is attached: a sample, if one was asked for. */
void corral_sampler_take(struct corral_vcpu *v);

#endif
