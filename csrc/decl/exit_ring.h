#define CORRAL_CPL_UNKNOWN ...

struct corral_vcpu;
struct corral_exit_ring;

struct corral_exit_record {
    uint64_t time, address, value, rip;
    uint32_t guest_ns, host_ns, count;
    uint8_t reason, size, write, by, cpl;
    ...;
};

struct corral_exit_ring *corral_exit_ring_create(uint32_t size, _Bool with_cpl, _Bool newest);
void corral_exit_ring_destroy(struct corral_exit_ring *ring);
void corral_exit_ring_select(struct corral_exit_ring *ring, uint64_t reasons);
uint32_t corral_exit_ring_take(struct corral_exit_ring *ring, struct corral_exit_record *records, uint32_t most);
uint64_t corral_exit_ring_lost(const struct corral_exit_ring *ring);
void corral_exit_ring_flush(struct corral_vcpu *v);
