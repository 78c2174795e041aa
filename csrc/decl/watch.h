struct corral_watch {
    const uint8_t *host;
    uint8_t size;
    uint8_t old[8];
};

struct corral_watches {
    struct kvm_guest_debug *again;
    unsigned count;
    struct corral_watch watch[4];
    unsigned stop_count;
    uint64_t stops[64];
};

int corral_finish_watched(struct corral_vcpu *v);
