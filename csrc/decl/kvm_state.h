#define KVM_GET_MSR_INDEX_LIST ...
#define KVM_GET_XCRS ...
#define KVM_SET_XCRS ...
#define KVM_GET_DEBUGREGS ...
#define KVM_SET_DEBUGREGS ...
#define KVM_SET_VCPU_EVENTS ...
#define KVM_GET_IRQCHIP ...
#define KVM_SET_IRQCHIP ...
#define KVM_GET_CLOCK ...
#define KVM_SET_CLOCK ...

struct kvm_msr_list {
    uint32_t nmsrs;
    ...;
    uint32_t indices[];
};

struct kvm_xcrs {
    uint32_t nr_xcrs, flags;
    ...;
};

struct kvm_debugregs {
    ...;
};

struct kvm_irqchip {
    uint32_t chip_id;
    ...;
};

struct kvm_clock_data {
    uint64_t clock;
    uint32_t flags;
    ...;
};
