// SPDX-License-Identifier: GPL-2.0
/*
 * Port I/O of programs in native supervisor mode.
 *
 * A program that ioperm() or iopl() allows a port runs IN and OUT itself, by a bitmap in the TSS. Here the processor's
 * TSS is the host's, so they fault; the kernel does the access for it. INS and OUTS are not done: no program that we
 * know of uses them.
 */
#include <linux/bitmap.h>
#include <linux/io.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/io_bitmap.h>
#include <asm/ptrace.h>
#include <asm/corral_native.h>

/* One IN or OUT, as the manual encodes it: E4 to E7 with a byte for the port, EC to EF with the port in DX. */
struct port_access {
	u16 port;
	u8 size;
	u8 length;
	bool out;
};

static bool decode(const struct pt_regs *regs, struct port_access *access)
{
	const char __user *at = (const char __user *)regs->ip;
	u8 byte, port;
	bool word = false;

	if (get_user(byte, at))
		return false;
	access->length = 1;
	if (byte == 0x66) {
		word = true;
		access->length++;
		if (get_user(byte, at + 1))
			return false;
	}
	if ((byte & 0xf4) != 0xe4)
		return false;
	access->out = byte & 2;
	access->size = byte & 1 ? word ? 2 : 4 : 1;
	access->port = regs->dx;
	if (!(byte & 8)) {
		if (get_user(port, at + access->length))
			return false;
		access->port = port;
		access->length++;
	}
	return true;
}

/* By the bitmap that ioperm() keeps, in which a set bit forbids a port. */
static bool allowed(const struct port_access *access)
{
	const struct thread_struct *thread = &current->thread;
	unsigned int last = access->port + access->size - 1;

	if (last >= IO_BITMAP_BITS)
		return false;
	if (thread->iopl_emul == 3)
		return true;
	return thread->io_bitmap && find_next_bit(thread->io_bitmap->bitmap, last + 1, access->port) > last;
}

/* Does the access that faulted in user code, and is past it then. False: the fault is the program's. */
bool corral_fixup_port_io(struct pt_regs *regs)
{
	struct port_access access;

	if (!cpu_feature_enabled(X86_FEATURE_XENPV) || !user_64bit_mode(regs) || !decode(regs, &access) ||
	    !allowed(&access))
		return false;
	switch (access.size) {
	case 1:
		if (access.out)
			outb(regs->ax, access.port);
		else
			regs->ax = (regs->ax & ~0xfful) | inb(access.port);
		break;
	case 2:
		if (access.out)
			outw(regs->ax, access.port);
		else
			regs->ax = (regs->ax & ~0xfffful) | inw(access.port);
		break;
	default:
		if (access.out)
			outl(regs->ax, access.port);
		else
			regs->ax = inl(access.port);
	}
	regs->ip += access.length;
	return true;
}
