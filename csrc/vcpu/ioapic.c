#include "ioapic.h"
#include "vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Registers: the window shows the one that the select register names. */
#define SELECT 0x00
#define WINDOW 0x10
#define ID 0x00
#define VERSION 0x01
#define ARBITRATION 0x02
#define TABLE 0x10

/* Of a redirection entry. */
#define VECTOR 0xffull
#define MODE (7ull << 8)
#define LOGICAL (1ull << 11)
#define PENDING (1ull << 12)
#define ACTIVE_LOW (1ull << 13)
#define REMOTE_IRR (1ull << 14)
#define LEVEL (1ull << 15)
#define MASKED (1ull << 16)
#define DESTINATION 56
#define READ_ONLY (PENDING | REMOTE_IRR)
/* What of an entry is in the message that it sends. */
#define ROUTED (VECTOR | MODE | LOGICAL | LEVEL | MASKED | 0xffull << DESTINATION)

/* Of a message (SDM 3A, 11.11). */
#define MESSAGE_ADDRESS 0xfee00000u
#define MESSAGE_LOGICAL (1u << 2)
#define MESSAGE_ASSERT (1u << 14)

struct corral_ioapic {
    pthread_mutex_t lock; /* all below; a UART's may be held, and none is taken under it */
    int vm_fd;
    struct corral_ioapic_state state;
};

static struct kvm_irq_routing_entry message_of(uint32_t pin, uint64_t entry)
{
    struct kvm_irq_routing_entry route = {.gsi = pin, .type = KVM_IRQ_ROUTING_MSI};
    route.u.msi.address_lo = MESSAGE_ADDRESS | (uint32_t)(entry >> DESTINATION) << 12;
    if (entry & LOGICAL)
        route.u.msi.address_lo |= MESSAGE_LOGICAL;
    route.u.msi.data = (uint32_t)(entry & (VECTOR | MODE | LEVEL)) | MESSAGE_ASSERT;
    return route;
}

#define ROUTES_SIZE (sizeof(struct kvm_irq_routing) + CORRAL_IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry))

static int route(struct corral_ioapic *a)
{
    union {
        struct kvm_irq_routing head;
        uint64_t room[ROUTES_SIZE / sizeof(uint64_t)];
    } table;
    memset(&table, 0, sizeof table);
    for (uint32_t pin = 0; pin < CORRAL_IOAPIC_PINS; pin++)
        if (!(a->state.pins[pin] & MASKED))
            table.head.entries[table.head.nr++] = message_of(pin, a->state.pins[pin]);
    return a->vm_fd < 0 || ioctl(a->vm_fd, KVM_SET_GSI_ROUTING, &table) == 0 ? 0 : -errno;
}

static int send(struct corral_ioapic *a, uint32_t pin)
{
    uint64_t *entry = &a->state.pins[pin];
    if ((*entry & MASKED) || ((*entry & LEVEL) && (*entry & REMOTE_IRR)))
        return 0;
    if (*entry & LEVEL)
        *entry |= REMOTE_IRR;
    struct kvm_irq_level pulse = {.irq = pin, .level = 1};
    return a->vm_fd < 0 || ioctl(a->vm_fd, KVM_IRQ_LINE, &pulse) == 0 ? 0 : -errno;
}

int corral_ioapic_line(struct corral_ioapic *a, uint32_t pin, bool high)
{
    if (pin >= CORRAL_IOAPIC_PINS)
        return -EINVAL;
    const uint32_t bit = 1u << pin;
    int result = 0;
    pthread_mutex_lock(&a->lock);
    a->state.lines = high ? a->state.lines | bit : a->state.lines & ~bit;
    const bool before = a->state.requests & bit, now = high != !!(a->state.pins[pin] & ACTIVE_LOW);
    a->state.requests = now ? a->state.requests | bit : a->state.requests & ~bit;
    if (now && !before)
        result = send(a, pin);
    pthread_mutex_unlock(&a->lock);
    return result;
}

/* True: the routes have changed. */
static bool write_entry(struct corral_ioapic *a, uint32_t pin, bool high_half, uint32_t value)
{
    uint64_t *entry = &a->state.pins[pin];
    const uint64_t before = *entry, low = before & 0xffffffffull;
    *entry = high_half ? (uint64_t)value << 32 | low
                       : (before & ~0xffffffffull) | (value & ~READ_ONLY) | (low & READ_ONLY);
    if (!(*entry & LEVEL)) /* what Linux counts on to be rid of it */
        *entry &= ~REMOTE_IRR;
    /* A route that nothing passes is no other one for another vector. */
    return ((*entry ^ before) & ROUTED) && !(before & *entry & MASKED);
}

static uint32_t read_window(const struct corral_ioapic *a)
{
    const uint8_t select = a->state.select;
    if (select == VERSION)
        return (CORRAL_IOAPIC_PINS - 1) << 16 | 0x11;
    if (select == ID || select == ARBITRATION)
        return (uint32_t)a->state.id << 24;
    if (select < TABLE || select >= TABLE + 2 * CORRAL_IOAPIC_PINS)
        return UINT32_MAX;
    return (uint32_t)(a->state.pins[(select - TABLE) / 2] >> (select & 1 ? 32 : 0));
}

static int write_window(struct corral_ioapic *a, uint32_t value)
{
    const uint8_t select = a->state.select;
    if (select == ID)
        a->state.id = value >> 24 & 0xf;
    if (select < TABLE || select >= TABLE + 2 * CORRAL_IOAPIC_PINS)
        return 0;
    const uint32_t pin = (select - TABLE) / 2;
    int result = write_entry(a, pin, select & 1, value) ? route(a) : 0;
    if (!result && (a->state.pins[pin] & LEVEL) && (a->state.requests >> pin & 1))
        result = send(a, pin);
    return result;
}

bool corral_ioapic_access(void *device, bool write, uint64_t offset, uint8_t size, uint32_t *value)
{
    struct corral_ioapic *a = device;
    int result = 0;
    (void)size; /* a narrow access is of the low bytes */
    pthread_mutex_lock(&a->lock);
    if (!write)
        *value = offset == SELECT ? a->state.select : offset == WINDOW ? read_window(a) : 0;
    else if (offset == SELECT)
        a->state.select = *value & 0xff;
    else if (offset == WINDOW)
        result = write_window(a, *value);
    pthread_mutex_unlock(&a->lock);
    return result == 0;
}

int corral_ioapic_route(struct corral_ioapic *a)
{
    pthread_mutex_lock(&a->lock);
    const int result = route(a);
    pthread_mutex_unlock(&a->lock);
    return result;
}

static int end_of_interrupt(struct corral_ioapic *a, uint8_t vector)
{
    int result = 0;
    pthread_mutex_lock(&a->lock);
    for (uint32_t pin = 0; pin < CORRAL_IOAPIC_PINS && !result; pin++) {
        uint64_t *entry = &a->state.pins[pin];
        if (!(*entry & LEVEL) || (*entry & VECTOR) != vector)
            continue;
        *entry &= ~REMOTE_IRR;
        if (a->state.requests >> pin & 1)
            result = send(a, pin);
    }
    pthread_mutex_unlock(&a->lock);
    return result;
}

int corral_finish_ioapic_eoi(struct corral_vcpu *v)
{
    const int result = v->ioapic ? end_of_interrupt(v->ioapic, v->run->eoi.vector) : 0;
    return result ? result : 1;
}

void corral_ioapic_save(struct corral_ioapic *a, struct corral_ioapic_state *state)
{
    pthread_mutex_lock(&a->lock);
    *state = a->state;
    pthread_mutex_unlock(&a->lock);
}

int corral_ioapic_restore(struct corral_ioapic *a, const struct corral_ioapic_state *state)
{
    pthread_mutex_lock(&a->lock);
    a->state = *state;
    const int result = route(a);
    pthread_mutex_unlock(&a->lock);
    return result;
}

struct corral_ioapic *corral_ioapic_create(int vm_fd)
{
    struct corral_ioapic *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->vm_fd = vm_fd;
    for (uint32_t pin = 0; pin < CORRAL_IOAPIC_PINS; pin++)
        a->state.pins[pin] = MASKED;
    return a;
}

void corral_ioapic_destroy(struct corral_ioapic *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a);
}
