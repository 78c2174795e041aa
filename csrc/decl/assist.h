enum corral_completion {
    CORRAL_CLAC,
    CORRAL_STAC,
    CORRAL_SYSCALL,
    CORRAL_BREAKPOINT,
    CORRAL_SAVE,
    CORRAL_RESTORE,
    CORRAL_XCR,
    CORRAL_CMPXCHG,
    CORRAL_TIME_STAMP,
    CORRAL_BARRIER,
    CORRAL_NATIVELY,
    CORRAL_EXCEPTION,
    ...
};

struct corral_assist {
    uint64_t completed[12];
    ...;
};

struct corral_assist *corral_assist_create(void);
void corral_assist_destroy(struct corral_assist *a);
int corral_assist_finish(struct corral_vcpu *v);
struct kvm_sync_regs *corral_assist_state(struct corral_vcpu *v);
int corral_assist_complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size);
