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

#define KVM_GET_DIRTY_LOG ...
#define KVM_CLEAR_DIRTY_LOG ...
#define KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 ...

struct kvm_dirty_log {
    uint32_t slot;
    void *dirty_bitmap;
    ...;
};

struct kvm_clear_dirty_log {
    uint32_t slot, num_pages;
    uint64_t first_page;
    void *dirty_bitmap;
    ...;
};
