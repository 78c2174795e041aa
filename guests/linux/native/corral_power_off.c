// SPDX-License-Identifier: GPL-2.0
/*
 * A machine without ACPI has no switch that turns it off. Its reset ends the guest too, where a halt would wait for
 * ever. To be no failure of the guest's, that is told to the port that takes a command's exit status.
 */
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/pm.h>
#include <linux/reboot.h>

static u16 status_port; /* 0: none */

/* The parameter is init's as well, which finds it in /proc/cmdline. */
static int __init set_status_port(char *text)
{
	return kstrtou16(text, 0, &status_port) == 0;
}
__setup("corral.status=", set_status_port);

static void corral_power_off(void)
{
	if (status_port)
		outb(0, status_port);
	emergency_restart();
}

static int __init corral_power_off_init(void)
{
	if (!pm_power_off)
		pm_power_off = corral_power_off;
	return 0;
}
late_initcall(corral_power_off_init);
