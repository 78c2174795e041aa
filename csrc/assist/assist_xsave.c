/* XCR0, and the XSAVE family between guest memory and KVM_GET_XSAVE's area. */
#include "completion.h"
#include "xsave.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

int corral_enabled_features(struct corral_vcpu *v, uint64_t *xcr0)
{
    struct kvm_xcrs xcrs;
    if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) < 0)
        return -errno;
    *xcr0 = xcrs.nr_xcrs ? xcrs.xcrs[0].value : XCR0_X87;
    return 0;
}

static bool osxsave(struct corral_vcpu *v)
{
    return corral_assist_state(v)->sregs.cr4 & CR4_OSXSAVE;
}

static uint64_t mask_of(const struct kvm_regs *regs)
{
    return (uint32_t)regs->rax | regs->rdx << 32;
}

int corral_complete_xcr(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    if (!osxsave(v))
        return corral_deliver(v, CORRAL_UD);
    if ((uint32_t)regs->rcx != 0)
        return corral_deliver(v, CORRAL_GP);
    if (i->modrm == 0xd0) {
        uint64_t value = 0;
        int error = corral_enabled_features(v, &value);
        if (error)
            return error;
        regs->rax = (uint32_t)value;
        regs->rdx = value >> 32;
        return corral_advance(v, i, CORRAL_XCR);
    }
    if (corral_at_cpl_3(v))
        return corral_deliver(v, CORRAL_GP);
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = mask_of(regs)}}};
    if (ioctl(v->fd, KVM_SET_XCRS, &xcrs) < 0)
        return errno == EINVAL ? corral_deliver(v, CORRAL_GP) : -errno;
    return corral_advance(v, i, CORRAL_XCR);
}

/* The faults that all of the family share, in the manual's order; 0: none. */
static int refused(struct corral_vcpu *v, const struct corral_instruction *i)
{
    if (!osxsave(v))
        return corral_deliver(v, CORRAL_UD);
    if (corral_assist_state(v)->sregs.cr0 & CR0_TS)
        return corral_deliver(v, CORRAL_NM);
    return i->address % 64 ? corral_deliver(v, CORRAL_GP) : 0;
}

int corral_complete_save(struct corral_vcpu *v, const struct corral_instruction *i, bool compacted, bool optimise)
{
    uint8_t area[CORRAL_XSAVE_SIZE];
    struct corral_page_fault fault;
    uint64_t enabled = 0;
    int error = refused(v, i);
    if (error || (error = corral_enabled_features(v, &enabled)))
        return error;
    uint64_t requested = enabled & mask_of(&corral_assist_state(v)->regs);
    size_t size = corral_xsave_size(requested, compacted);
    if (!size)
        return CORRAL_UNKNOWN;
    if (ioctl(v->fd, KVM_GET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    /* What the instruction does not write stays as it is. */
    enum corral_access_result result = corral_access(v, i->address, area, size, false, &fault);
    if (result == CORRAL_ACCESS_OK) {
        corral_xsave_put((const uint8_t *)&v->assist->xsave, area, requested, compacted, optimise);
        result = corral_access(v, i->address, area, size, true, &fault);
    }
    if (result == CORRAL_ACCESS_FAULT) /* it only writes: a page that is not there faults so */
        fault.error_code |= CORRAL_PF_WRITE;
    if (result != CORRAL_ACCESS_OK)
        return corral_failed_access(v, result, &fault);
    return corral_advance(v, i, CORRAL_SAVE);
}

int corral_complete_restore(struct corral_vcpu *v, const struct corral_instruction *i, bool supervisor)
{
    uint8_t area[CORRAL_XSAVE_SIZE] = {0};
    const size_t head = CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER;
    struct corral_page_fault fault;
    uint64_t enabled = 0, xcomp_bv;
    int error = refused(v, i);
    if (error || (error = corral_enabled_features(v, &enabled)))
        return error;
    uint64_t requested = enabled & mask_of(&corral_assist_state(v)->regs);

    enum corral_access_result result = corral_access(v, i->address, area, head, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return corral_failed_access(v, result, &fault);
    memcpy(&xcomp_bv, area + CORRAL_XSAVE_LEGACY + 8, 8);
    bool compacted = xcomp_bv >> 63;
    size_t size = corral_xsave_size(compacted ? xcomp_bv & enabled : requested, compacted);
    if (!size || !corral_xsave_size(requested, false))
        return CORRAL_UNKNOWN;
    result = corral_access(v, i->address + head, area + head, size - head, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return corral_failed_access(v, result, &fault);

    if (ioctl(v->fd, KVM_GET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    if (!corral_xsave_take((uint8_t *)&v->assist->xsave, area, requested, enabled, supervisor))
        return corral_deliver(v, CORRAL_GP);
    if (ioctl(v->fd, KVM_SET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    return corral_advance(v, i, CORRAL_RESTORE);
}
