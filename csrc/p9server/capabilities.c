#define _GNU_SOURCE
#include "fids.h"
#include "jail.h"
#include "server.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (1ull << (capability))
/* Root's server reads what any user of the guest may, for the guest's kernel decides on that. */
#define TO_READ BIT(CAP_DAC_READ_SEARCH)
/* And makes files that are another user's. */
#define TO_WRITE                                                                                                  \
    (TO_READ | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_CHOWN) | BIT(CAP_FOWNER) | BIT(CAP_SETUID) | BIT(CAP_SETGID))
#define OTHER_FILES 64 /* descriptors besides the fids' */

void p9_drop_capabilities(const struct p9_jail *jail)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct had[2], kept[2] = {0};
    uint64_t wanted = !jail->as_root ? 0 : jail->read_only ? TO_READ : TO_WRITE;
    if (syscall(SYS_capget, &header, had) < 0)
        p9_give_up("it cannot see its capabilities", errno);
    /* What a thread may does not change with the user for whom it makes a file. Without CAP_SETPCAP it does, and
     * the host's kernel has the last word on what that user may. */
    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT);
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned i = 0; i < 2; i++)
        kept[i].effective = kept[i].permitted = had[i].permitted & (uint32_t)(wanted >> 32 * i);
    if (syscall(SYS_capset, &header, kept) < 0)
        p9_give_up("it cannot drop its capabilities", errno);
}

static uint64_t raise_limit(int resource, uint64_t wanted)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return 0;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    limit.rlim_max = limit.rlim_cur;
    return setrlimit(resource, &limit) < 0 ? 0 : limit.rlim_cur;
}

void p9_limit(void)
{
    const struct rlimit none = {0, 0};
    signal(SIGXFSZ, SIG_IGN); /* what is too long for the host is an error to the guest */
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_CORE, &none);
    /* A fid has two descriptors while it is open. */
    uint64_t files = raise_limit(RLIMIT_NOFILE, P9_MOST_FIDS + OTHER_FILES);
    p9_fids_init(files > OTHER_FILES ? files - OTHER_FILES : 1);
}
