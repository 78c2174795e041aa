struct corral_ram {
    uint8_t *host;
    uint64_t low_end;
    uint64_t high_end;
};

struct corral_vcpu;
struct corral_exit_ring;
struct corral_watches;
struct corral_sampler;
typedef int (*corral_finisher)(struct corral_vcpu *v);
typedef _Bool (*corral_pio_op)(void *device, _Bool write, uint16_t offset, uint8_t size, uint32_t *value);

struct corral_vcpu {
    int fd, vm_fd;
    struct kvm_run *run;
    const struct corral_ram *ram;
    struct corral_assist *assist;
    struct corral_exit_ring *exit_ring;
    struct corral_watches *watches;
    struct corral_sampler *sampler;
    corral_finisher finish[64];
    uint64_t exits[64];
    uint64_t finished[64];
    ...;
};

int corral_vcpu_run(struct corral_vcpu *v);
void corral_vcpu_kick(struct corral_vcpu *v);
int corral_vcpu_claim_pio(struct corral_vcpu *v, uint16_t first, uint16_t last, corral_pio_op op, void *device);
int corral_vcpu_claim_mmio(struct corral_vcpu *v, uint64_t first, uint64_t last, corral_pio_op op, void *device);
int corral_finish_mmio(struct corral_vcpu *v);
_Bool corral_pio_constant(void *device, _Bool write, uint16_t offset, uint8_t size, uint32_t *value);
int corral_kick_init(void);
int corral_ioctl(int fd, unsigned long request, void *arg);
void corral_name_thread(const char *name);
void corral_host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
