/* The first process of a guest: mounts, runs a shell or a command on the console, reports its exit status, resets.
 *
 * Freestanding on purpose: every byte of it is copied by the guest's kernel, which a pagetable KVM interprets. */

#include "agent.h"
#include "early.h"
#include "network.h"
#include "session.h"

__attribute__((noreturn, used)) static void start(void)
{
    static const char *const shells[] = {"/bin/sh", 0};
    static const char *const environment[] = {"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TERM=vt100",
                                              "PS1=\\w # ", 0};
    say("corral: init\n"); /* the kernel has opened /dev/console */
    mount("devtmpfs", "/dev");
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    open_console();
    mount("tmpfs", "/tmp");
    read_file("/proc/cmdline", command_line, sizeof command_line);
    load_modules();
    network_up(command_line);
    run_agent(open_agent(command_line));
    session(shells, environment);
}
