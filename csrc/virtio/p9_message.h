/* What the device of a shared folder and its server, a process of its own (p9server/), both know of messages of
 * 9P2000.L. */
#ifndef CORRAL_P9_MESSAGE_H
#define CORRAL_P9_MESSAGE_H

#include <stdint.h>

/* --- for Python --- */

/* Longer ones are refused. Linux makes its own as long as a queue's buffers are: 500 KiB at most. */
#define CORRAL_P9_MESSAGE_MAX 524288

/* --- for C alone --- */

/* size[4] type[1] tag[2], little-endian, begin every message; size counts them too. */
#define CORRAL_P9_HEADER 7

/* What Linux's driver asks; the answer to each kind has the number behind it. */
enum corral_p9_type {
    CORRAL_P9_R_LERROR = 7, /* ecode[4] */
    CORRAL_P9_T_STATFS = 8,
    CORRAL_P9_T_LOPEN = 12,
    CORRAL_P9_T_LCREATE = 14,
    CORRAL_P9_T_SYMLINK = 16,
    CORRAL_P9_T_MKNOD = 18,
    CORRAL_P9_T_READLINK = 22,
    CORRAL_P9_T_GETATTR = 24,
    CORRAL_P9_T_SETATTR = 26,
    CORRAL_P9_T_XATTRWALK = 30,
    CORRAL_P9_T_XATTRCREATE = 32,
    CORRAL_P9_T_READDIR = 40,
    CORRAL_P9_T_FSYNC = 50,
    CORRAL_P9_T_LOCK = 52,
    CORRAL_P9_T_GETLOCK = 54,
    CORRAL_P9_T_LINK = 70,
    CORRAL_P9_T_MKDIR = 72,
    CORRAL_P9_T_RENAMEAT = 74,
    CORRAL_P9_T_UNLINKAT = 76,
    CORRAL_P9_T_VERSION = 100,
    CORRAL_P9_T_ATTACH = 104,
    CORRAL_P9_T_FLUSH = 108, /* oldtag[2] */
    CORRAL_P9_R_FLUSH = 109,
    CORRAL_P9_T_WALK = 110,
    CORRAL_P9_T_READ = 116,
    CORRAL_P9_T_WRITE = 118,
    CORRAL_P9_T_CLUNK = 120,
    CORRAL_P9_T_REMOVE = 122,
    CORRAL_P9_KINDS = 128
};

static inline uint16_t corral_p9_get16(const uint8_t *at)
{
    return at[0] | at[1] << 8;
}

static inline uint32_t corral_p9_get32(const uint8_t *at)
{
    return corral_p9_get16(at) | (uint32_t)corral_p9_get16(at + 2) << 16;
}

#endif
