#include "xsave.h"

#include <cpuid.h>
#include <pthread.h>
#include <string.h>

#define X87 1ULL
#define SSE 2ULL
#define AVX 4ULL
#define COMPACTED (1ULL << 63)
#define COMPONENTS 63

/* In the legacy area (SDM 1, table 13-1): control and status words, MXCSR and its mask, eight ST, sixteen XMM. */
#define FCW 0
#define MXCSR 24
#define MXCSR_MASK 28
#define ST 32
#define XMM 160
#define XMM_END 416
#define INITIAL_FCW 0x037f
#define INITIAL_MXCSR 0x1f80

struct header {
    uint64_t xstate_bv, xcomp_bv, reserved[6];
};

struct component {
    size_t offset, size;
    bool aligned; /* to 64 bytes, in the compacted format */
};

static struct component components[COMPONENTS];

/* CPUID leaf 0xD, which is the same for KVM's buffers and for guests: KVM passes the host's layout on. */
static void ask_cpuid(void)
{
    for (unsigned number = 2; number < COMPONENTS; number++) {
        unsigned size, offset, flags, unused;
        __cpuid_count(0xd, number, size, offset, flags, unused);
        components[number] = (struct component){offset, size, flags & 2};
    }
}

static struct component component(unsigned number)
{
    /* CPUID leaves a virtualized host each time: once is enough. */
    static pthread_once_t asked = PTHREAD_ONCE_INIT;
    pthread_once(&asked, ask_cpuid);
    return components[number];
}

/* Where component `number` of a compacted area lies, after `end`, the end of the one before. */
static size_t compacted_offset(struct component c, size_t end)
{
    return c.aligned ? (end + 63) & ~(size_t)63 : end;
}

size_t corral_xsave_size(uint64_t features, bool compacted)
{
    size_t end = CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER;
    for (unsigned number = 2; number < COMPONENTS; number++) {
        if (!(features >> number & 1))
            continue;
        struct component c = component(number);
        size_t begin = compacted ? compacted_offset(c, end) : c.offset;
        if (!c.size || c.offset + c.size > CORRAL_XSAVE_SIZE || begin + c.size > CORRAL_XSAVE_SIZE)
            return 0;
        end = begin + c.size > end ? begin + c.size : end;
    }
    return end;
}

static void copy_x87(uint8_t *to, const uint8_t *from)
{
    memcpy(to + FCW, from + FCW, MXCSR);
    memcpy(to + ST, from + ST, XMM - ST);
}

static void init_x87(uint8_t *state)
{
    memset(state + FCW, 0, MXCSR);
    memset(state + ST, 0, XMM - ST);
    memcpy(state + FCW, &(uint16_t){INITIAL_FCW}, 2);
}

void corral_xsave_put(const uint8_t *state, uint8_t *area, uint64_t requested, bool compacted, bool optimise)
{
    struct header in, out;
    if (!corral_xsave_size(requested, compacted))
        return;
    memcpy(&in, state + CORRAL_XSAVE_LEGACY, sizeof in);
    memcpy(&out, area + CORRAL_XSAVE_LEGACY, sizeof out);
    uint64_t in_use = in.xstate_bv;
    uint32_t mxcsr;
    memcpy(&mxcsr, state + MXCSR, sizeof mxcsr);
    if (compacted && mxcsr != INITIAL_MXCSR) /* MXCSR is part of SSE there, and SSE then in use (SDM 1, 13.10) */
        in_use |= SSE;
    in_use &= requested;
    uint64_t written = optimise ? in_use : requested;

    if (written & X87)
        copy_x87(area, state);
    if (written & SSE)
        memcpy(area + XMM, state + XMM, XMM_END - XMM);
    /* MXCSR goes with SSE, and in the standard format with AVX too (SDM 1, 13.7 and 13.10). */
    if (compacted ? written & SSE : requested & (SSE | AVX))
        memcpy(area + MXCSR, state + MXCSR, 8);

    size_t end = CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER;
    for (unsigned number = 2; number < COMPONENTS; number++) {
        if (!(requested >> number & 1))
            continue;
        struct component c = component(number);
        size_t begin = compacted ? compacted_offset(c, end) : c.offset;
        if (written >> number & 1) {
            if (in.xstate_bv >> number & 1)
                memcpy(area + begin, state + c.offset, c.size);
            else
                memset(area + begin, 0, c.size);
        }
        end = begin + c.size;
    }
    out.xstate_bv = compacted ? in_use : (out.xstate_bv & ~requested) | in_use;
    if (compacted)
        out.xcomp_bv = requested | COMPACTED;
    memcpy(area + CORRAL_XSAVE_LEGACY, &out, 16);
}

static bool acceptable(const struct header *h, uint64_t enabled, bool only_compacted)
{
    uint64_t reserved = 0;
    for (size_t i = 0; i < 6; i++)
        reserved |= h->reserved[i];
    if (h->xcomp_bv & COMPACTED)
        return !reserved && !(h->xcomp_bv & ~COMPACTED & ~enabled) && !(h->xstate_bv & ~h->xcomp_bv);
    /* The standard format's XRSTOR looks at the first two reserved quadwords' place only: XCOMP_BV and the next.
     */
    return !only_compacted && !h->xcomp_bv && !h->reserved[0] && !(h->xstate_bv & ~enabled);
}

bool corral_xsave_take(uint8_t *state, const uint8_t *area, uint64_t requested, uint64_t enabled,
                       bool only_compacted)
{
    struct header in, out;
    memcpy(&in, area + CORRAL_XSAVE_LEGACY, sizeof in);
    memcpy(&out, state + CORRAL_XSAVE_LEGACY, sizeof out);
    bool compacted = in.xcomp_bv & COMPACTED;
    if (!acceptable(&in, enabled, only_compacted))
        return false;
    /* What is requested and not in XCOMP_BV has no place in the area, and one in the state. */
    if (!corral_xsave_size(requested, false) || (compacted && !corral_xsave_size(in.xcomp_bv & ~COMPACTED, true)))
        return false;

    uint64_t present = in.xstate_bv & requested;
    bool takes_mxcsr = compacted ? present & SSE : requested & (SSE | AVX);
    if (takes_mxcsr) {
        uint32_t mxcsr, mask;
        memcpy(&mxcsr, area + MXCSR, 4);
        memcpy(&mask, state + MXCSR_MASK, 4);
        if (mxcsr & ~(mask ? mask : 0xffbf))
            return false;
        memcpy(state + MXCSR, area + MXCSR, 4);
    } else if (compacted && (requested & SSE)) {
        memcpy(state + MXCSR, &(uint32_t){INITIAL_MXCSR}, 4);
    }
    if (present & X87)
        copy_x87(state, area);
    else if (requested & X87)
        init_x87(state);
    if (present & SSE)
        memcpy(state + XMM, area + XMM, XMM_END - XMM);
    else if (requested & SSE)
        memset(state + XMM, 0, XMM_END - XMM);

    size_t end = CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER;
    for (unsigned number = 2; number < COMPONENTS; number++) {
        if (!((compacted ? in.xcomp_bv : requested) >> number & 1))
            continue;
        struct component c = component(number);
        size_t begin = compacted ? compacted_offset(c, end) : c.offset;
        end = begin + c.size;
        if (!(requested >> number & 1))
            continue;
        if (present >> number & 1)
            memcpy(state + c.offset, area + begin, c.size);
        else
            memset(state + c.offset, 0, c.size);
    }
    if (compacted) /* what is requested and not in XCOMP_BV is initial too */
        for (unsigned number = 2; number < COMPONENTS; number++)
            if ((requested & ~in.xcomp_bv) >> number & 1) {
                struct component c = component(number);
                memset(state + c.offset, 0, c.size);
            }
    out.xstate_bv = (out.xstate_bv & ~requested) | present;
    out.xcomp_bv = 0;
    memcpy(state + CORRAL_XSAVE_LEGACY, &out, 16);
    return true;
}
