/* Services of Corral's: the session of `corral boot debian -- COMMAND`, and the agent; for a system that is mounted at /root and has
 * systemd. They are in /run, which is memory: the system's disk stays as it is. */
#pragma once

#include "freestanding.h"

#include <linux/stat.h>

#define COMMAND "/run/corral/command"
#define AGENT "/run/corral/agent"
#define UNITS "/root/run/systemd/system"

/* After all that a boot starts. A command that cannot be started ends the guest, without a status. */
static const char unit[] = "[Unit]\n"
                           "Description=The command that Corral was given\n"
                           "DefaultDependencies=no\n"
                           "After=multi-user.target\n"
                           "FailureAction=reboot-force\n"
                           "[Service]\n"
                           "ExecStart=" COMMAND "\n"
                           "StandardOutput=journal+console\n"
                           "KillMode=process\n";

static const char network[] = "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n";
static const char patience[] = "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any"
                               " --timeout=10\n";
static const char after_network[] = "[Unit]\nWants=network-online.target\nAfter=network-online.target\n";

static void write_all(const char *path, const char *data, word size, int mode)
{
    long fd = SYSCALL(open, path, O_WRONLY | O_CREAT | O_TRUNC, mode, 0, 0), n = 1;
    for (word done = 0; fd >= 0 && done < size && n > 0; done += n > 0 ? n : 0)
        n = SYSCALL(write, fd, data + done, size - done, 0, 0);
    SYSCALL(close, fd, 0, 0, 0, 0);
}

static void write_text(const char *path, const char *text)
{
    write_all(path, text, length(text), 0644);
}

static void mount_run(void)
{
    SYSCALL(mount, "tmpfs", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    SYSCALL(mkdir, "/root/run/corral", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/root/run/systemd", 0755, 0, 0, 0);
    SYSCALL(mkdir, UNITS, 0755, 0, 0, 0);
    SYSCALL(mkdir, UNITS "/basic.target.wants", 0755, 0, 0, 0);
    SYSCALL(mkdir, UNITS "/multi-user.target.wants", 0755, 0, 0, 0);
}

/* Cards by DHCP of the system's own; a command waits until there is an address, for some seconds. */
static void put_network(void)
{
    SYSCALL(mkdir, "/root/run/systemd/network", 0755, 0, 0, 0);
    write_text("/root/run/systemd/network/20-corral.network", network);
    SYSCALL(symlink, "/lib/systemd/system/systemd-networkd.service",
            UNITS "/multi-user.target.wants/systemd-networkd.service", 0, 0, 0);
    SYSCALL(mkdir, UNITS "/network-online.target.wants", 0755, 0, 0, 0);
    SYSCALL(symlink, "/lib/systemd/system/systemd-networkd-wait-online.service",
            UNITS "/network-online.target.wants/systemd-networkd-wait-online.service", 0, 0, 0);
    SYSCALL(mkdir, UNITS "/systemd-networkd-wait-online.service.d", 0755, 0, 0, 0);
    write_text(UNITS "/systemd-networkd-wait-online.service.d/corral.conf", patience);
    SYSCALL(mkdir, UNITS "/corral-command.service.d", 0755, 0, 0, 0);
    write_text(UNITS "/corral-command.service.d/network.conf", after_network);
}

/* The agent, as early as a service can be: it is asked for things before a log-in is there. Its commands are not
 * stopped with it. */
static const char agent_unit[] = "[Unit]\n"
                                 "Description=Corral's agent\n"
                                 "DefaultDependencies=no\n"
                                 "After=local-fs.target\n"
                                 "StartLimitIntervalSec=0\n"
                                 "[Service]\n"
                                 "ExecStart=" AGENT "\n"
                                 "Restart=always\n"
                                 "RestartSec=100ms\n"
                                 "KillMode=process\n"
                                 "OOMScoreAdjust=-900\n";

static void copy_program(const char *from, const char *to)
{
    static char program[64 * 1024];
    long size = 0, fd = SYSCALL(open, from, O_RDONLY, 0, 0, 0);
    if (fd >= 0)
        size = SYSCALL(read, fd, program, sizeof program, 0, 0);
    SYSCALL(close, fd, 0, 0, 0, 0);
    write_all(to, program, size > 0 ? size : 0, 0755);
}

static void put_agent(void)
{
    copy_program("/agent", "/root" AGENT);
    write_text(UNITS "/corral-agent.service", agent_unit);
    SYSCALL(symlink, "../corral-agent.service", UNITS "/basic.target.wants/corral-agent.service", 0, 0, 0);
}

static void put_command(void)
{
    copy_program("/command", "/root" COMMAND);
    write_text(UNITS "/corral-command.service", unit);
    SYSCALL(symlink, "../corral-command.service", UNITS "/multi-user.target.wants/corral-command.service", 0, 0, 0);
    /* The console is the command's: a log-in there would read what is typed. */
    SYSCALL(symlink, "/dev/null", UNITS "/serial-getty@ttyS0.service", 0, 0, 0);
}
