/* SPDX-License-Identifier: GPL-2.0 */
/* Included behind the kernel's own configuration: what is another for code that is not built with the kernel. */
/* objtool would make NOPs of jumps. */
#undef CONFIG_HAVE_JUMP_LABEL_HACK
/* The kernel patches its own returns, and warns of one that it does not know. */
#undef CONFIG_RETHUNK
#undef CONFIG_MITIGATION_RETHUNK
