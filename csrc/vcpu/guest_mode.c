#include "guest_mode.h"

#include <sys/ioctl.h>

uint64_t corral_native_mode(struct corral_vcpu *v)
{
    struct { /* a kvm_msrs and its entry */
        uint32_t nmsrs, pad;
        struct kvm_msr_entry native;
    } msrs = {1, 0, {.index = CORRAL_MSR_NATIVE}};
    /* Only a KVM that interprets kernel code, and so needs the assist, has the MSR. */
    if (!v->assist || ioctl(v->fd, KVM_GET_MSRS, &msrs) != 1)
        return 0;
    return msrs.native.data & CORRAL_NATIVE_PAGE ? msrs.native.data : 0;
}

uint8_t corral_guest_cpl(struct corral_vcpu *v, const struct kvm_sregs *sregs)
{
    uint64_t native = corral_native_mode(v);
    if (native)
        return native & CORRAL_NATIVE_USER ? 3 : 0;
    return sregs->ss.dpl;
}
