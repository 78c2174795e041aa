/* The fields of messages of 9P2000.L, little-endian: taken from a question, put into an answer. Neither goes past
 * its end: a question that is too short is remembered as bad and reads as zeros, an answer that is full takes no
 * more. */
#ifndef P9_WIRE_H
#define P9_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#define P9_NAME_SIZE 256  /* of a name, with the 0 behind it */
#define P9_PATH_SIZE 4096 /* of what a symbolic link says, likewise */

struct p9_question {
    const uint8_t *at, *end;
    bool bad;
};

struct p9_answer {
    uint8_t *at, *end;
    bool full;
};

/* What tells a file from all others: type[1] version[4] path[8]. */
struct p9_qid {
    uint8_t type;
    uint32_t version;
    uint64_t path;
};

static inline uint64_t p9_get(struct p9_question *q, unsigned bytes)
{
    uint64_t value = 0;
    if ((size_t)(q->end - q->at) < bytes) {
        q->bad = true;
        q->at = q->end;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)q->at[i] << 8 * i;
    q->at += bytes;
    return value;
}

static inline uint8_t p9_get8(struct p9_question *q)
{
    return p9_get(q, 1);
}

static inline uint16_t p9_get16(struct p9_question *q)
{
    return p9_get(q, 2);
}

static inline uint32_t p9_get32(struct p9_question *q)
{
    return p9_get(q, 4);
}

static inline uint64_t p9_get64(struct p9_question *q)
{
    return p9_get(q, 8);
}

/* The next `size` bytes; NULL, and bad, if there are fewer. */
static inline const uint8_t *p9_get_bytes(struct p9_question *q, size_t size)
{
    const uint8_t *bytes = q->at;
    if ((size_t)(q->end - q->at) < size) {
        q->bad = true;
        q->at = q->end;
        return NULL;
    }
    q->at += size;
    return bytes;
}

/* A string s: n[2] and n bytes. Bad if it has a 0 in it, is empty, or with one behind it has not room in `to`. */
static inline void p9_get_string(struct p9_question *q, char *to, size_t room)
{
    uint16_t n = p9_get16(q);
    const uint8_t *bytes = p9_get_bytes(q, n);
    to[0] = 0;
    if (!bytes || !n || n >= room || memchr(bytes, 0, n)) {
        q->bad = true;
        return;
    }
    memcpy(to, bytes, n);
    to[n] = 0;
}

/* A string of no interest. */
static inline void p9_skip_string(struct p9_question *q)
{
    uint16_t n = p9_get16(q);
    p9_get_bytes(q, n);
}

static inline void p9_put(struct p9_answer *a, uint64_t value, unsigned bytes)
{
    if ((size_t)(a->end - a->at) < bytes) {
        a->full = true;
        return;
    }
    for (unsigned i = 0; i < bytes; i++)
        *a->at++ = value >> 8 * i;
}

static inline void p9_put8(struct p9_answer *a, uint8_t value)
{
    p9_put(a, value, 1);
}

static inline void p9_put16(struct p9_answer *a, uint16_t value)
{
    p9_put(a, value, 2);
}

static inline void p9_put32(struct p9_answer *a, uint32_t value)
{
    p9_put(a, value, 4);
}

static inline void p9_put64(struct p9_answer *a, uint64_t value)
{
    p9_put(a, value, 8);
}

static inline void p9_put_bytes(struct p9_answer *a, const void *bytes, size_t size)
{
    if ((size_t)(a->end - a->at) < size) {
        a->full = true;
        return;
    }
    memcpy(a->at, bytes, size);
    a->at += size;
}

static inline void p9_put_string(struct p9_answer *a, const char *text)
{
    size_t n = strlen(text);
    p9_put16(a, n);
    p9_put_bytes(a, text, n);
}

static inline void p9_put_qid(struct p9_answer *a, struct p9_qid qid)
{
    p9_put8(a, qid.type);
    p9_put32(a, qid.version);
    p9_put64(a, qid.path);
}

static inline uint8_t p9_qid_type(mode_t mode)
{
    return S_ISDIR(mode) ? 0x80 : S_ISLNK(mode) ? 0x02 : 0;
}

#endif
