/* A driver and a network card on one core, with no machine around them: nanoseconds a frame.
 *
 * net.c MODE SIZE FRAMES: MODE is "send" or "receive", to and from a descriptor that costs as little as there is
 * (a tap that is /dev/null or /dev/zero), or "drop", with nothing at the other end. */
#define _GNU_SOURCE
#include "net_device.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SIZE 256u /* of a queue */
#define RAM (64u << 20)
#define BUFFERS 0x100000u

int __wrap_corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                                    void (*serve)(void *), void *argument);
int __wrap_corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                                    void (*serve)(void *), void *argument)
{
    (void)w, (void)name, (void)prepare, (void)serve, (void)argument;
    return 0;
}

void corral_jail_enter_or_end(enum corral_jail_kind kind)
{
    (void)kind;
}

static struct corral_ram ram = {.low_end = RAM};

static uint64_t base(unsigned queue)
{
    return 0x10000 * (queue + 1);
}

/* All buffers are with the device: each chain is one descriptor of its own. */
static void fill(unsigned queue, uint32_t length)
{
    struct vring_desc *desc = (void *)(ram.host + base(queue));
    uint16_t *avail = (void *)(ram.host + base(queue) + 0x2000);
    for (unsigned i = 0; i < SIZE; i++) {
        desc[i] = (struct vring_desc){.addr = BUFFERS + (uint64_t)i * 0x20000, .len = length};
        desc[i].flags = queue == CORRAL_NET_RX ? VRING_DESC_F_WRITE : 0;
        avail[2 + i] = i;
    }
    avail[0] = 1; /* no interrupts */
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    uint32_t size = atoi(argv[2]), frames = atoi(argv[3]);
    unsigned queue = strcmp(argv[1], "receive") ? CORRAL_NET_TX : CORRAL_NET_RX;
    int fd = strcmp(argv[1], "drop") ? open("/dev/null", O_RDWR) : -1;
    ram.host = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct corral_virtio_irq irq;
    corral_virtio_irq_init(&irq, -1);
    struct corral_net_config config = {.worker = {.broken_fd = -1}, .fd = fd, .tap = true, .dump_fd = -1};
    struct corral_net *card = corral_net_create(&config, &ram, &irq);
    struct corral_virtq_setup queues[CORRAL_NET_QUEUES];
    const int doorbell = eventfd(0, EFD_NONBLOCK), doorbells[CORRAL_NET_QUEUES] = {doorbell, doorbell, doorbell};
    for (unsigned i = 0; i < CORRAL_NET_QUEUES; i++)
        queues[i] = (struct corral_virtq_setup){SIZE, true, base(i), base(i) + 0x2000, base(i) + 0x4000};
    fill(queue, CORRAL_NET_HEADER + size);
    if (corral_net_start(card, 1ull << VIRTIO_NET_F_MRG_RXBUF, queues, doorbells, false))
        return 1;
    uint16_t *avail = (void *)(ram.host + base(queue) + 0x2000), *used = (void *)(ram.host + base(queue) + 0x4000);
    double begin = seconds();
    for (uint32_t done = 0; done < frames; done += SIZE) {
        avail[1] += SIZE;
        while (used[1] != avail[1]) {
            if (queue == CORRAL_NET_RX && card->stage_at == card->stage_end) {
                card->stage_at = 0; /* a frame that has just been read */
                card->stage_end = CORRAL_NET_HEADER + size;
            }
            if (queue == CORRAL_NET_RX)
                corral_net_receive(card);
            else
                corral_net_send(card);
        }
    }
    printf("%.1f\n", (seconds() - begin) / frames * 1e9);
    return 0;
}
