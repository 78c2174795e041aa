#include "native_switch.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_NS (200 * 1000 * 1000)
#define SWITCH_PORT 0xf1

/* One signal that makes KVM_RUN of this thread return, after some time of its CPU: a busy host is no failure. */
static int set_alarm(timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = CORRAL_KICK_SIGNAL};
    event._sigev_un._tid = syscall(SYS_gettid);
    struct itimerspec once = {.it_value = {.tv_nsec = LIMIT_NS}};
    int result = corral_kick_init();
    if (result < 0)
        return result;
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, timer) < 0)
        return -errno;
    if (timer_settime(*timer, 0, &once, NULL) == 0)
        return 0;
    result = -errno;
    timer_delete(*timer);
    return result;
}

static bool is_set(timer_t timer)
{
    struct itimerspec left;
    return timer_gettime(timer, &left) == 0 && (left.it_value.tv_sec || left.it_value.tv_nsec);
}

int corral_native_switch(struct corral_vcpu *v)
{
    timer_t timer;
    int result = set_alarm(&timer);
    if (result < 0)
        return result;

    /* A kick that is for the vCPU's thread, which does not run now, stays for it. */
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    do /* other signals end KVM_RUN too */
        result = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
    while (result == -EINTR && is_set(timer));
    if (result == -EINTR)
        result = -ETIMEDOUT;
    else if (!result && (v->run->exit_reason != KVM_EXIT_IO || v->run->io.port != SWITCH_PORT))
        result = -EIO;
    timer_delete(timer);

    const int completed = corral_vcpu_complete(v);
    if (__atomic_load_n(&v->kicked, __ATOMIC_SEQ_CST))
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    return result ? result : completed;
}
