#define CORRAL_SAMPLE_STACK ...

struct corral_sampler;

struct corral_sample {
    uint64_t time, rip, rsp, rbp, cr3;
    uint8_t cpl, halted;
    uint16_t stack_size;
    uint8_t stack[...];
    ...;
};

struct corral_sampler *corral_sampler_create(uint32_t size);
void corral_sampler_destroy(struct corral_sampler *sampler);
void corral_sampler_request(struct corral_vcpu *v);
_Bool corral_sampler_next(struct corral_sampler *sampler, struct corral_sample *sample);
uint64_t corral_sampler_lost(const struct corral_sampler *sampler);
