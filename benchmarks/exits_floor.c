/* The least that a port write can cost: a KVM_RUN loop in C that does nothing else. Runs the guest's code, flat at
 * 1 MiB as guests/asm makes it, until it writes 0xfe to port 0x64; prints nanoseconds for each exit before that.
 *
 * usage: exits_floor TEXT-FILE  (the raw .text of the guest) */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LOAD 0x100000
#define MEMORY (16 << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* as exits.py */
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void flat(struct kvm_segment *s, int type, int selector)
{
    *s = (struct kvm_segment){.limit = 0xffffffff, .type = type, .present = 1, .db = 1, .s = 1, .g = 1,
                              .selector = selector};
}

int main(int argc, char **argv)
{
    int text = argc == 2 ? open(argv[1], O_RDONLY) : -1, kvm = open("/dev/kvm", O_RDWR);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    char *ram = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (text < 0 || vm < 0 || ram == MAP_FAILED || read(text, ram + LOAD, MEMORY - LOAD) <= 0)
        return perror("exits_floor"), 1;
    ioctl(vm, KVM_CREATE_IRQCHIP, 0);
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY, .userspace_addr = (unsigned long)ram};
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    ioctl(vcpu, KVM_GET_SREGS, &sregs);
    flat(&sregs.cs, 11, 8);
    struct kvm_segment *data[] = {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss};
    for (int i = 0; i < 5; i++)
        flat(data[i], 3, 16);
    sregs.cr0 |= 1;
    ioctl(vcpu, KVM_SET_SREGS, &sregs);
    struct kvm_regs regs = {.rip = LOAD, .rflags = 2};
    ioctl(vcpu, KVM_SET_REGS, &regs);

    unsigned long exits = 0;
    double start = 0;
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO)
            return fprintf(stderr, "exit reason %u\n", run->exit_reason), 1;
        if (run->io.port == 0x64)
            break;
        if (!exits++)
            start = now();
    }
    printf("%f\n", (now() - start) / (exits - 1));
}
