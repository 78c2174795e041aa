/* The connections of a virtio-vsock, and the bytes that wait for programs of the host. Indices instead of
 * pointers, in memory that is there from the start: the jail has a thread allocate nothing. */
#define _GNU_SOURCE
#include "vsock_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INDEX(v, c) ((uint32_t)((c) - (v)->connections))

bool corral_vsock_table_create(struct corral_vsock *v)
{
    v->connections = calloc(v->config.most, sizeof *v->connections);
    v->chunk_next = calloc(CORRAL_VSOCK_CHUNKS, sizeof *v->chunk_next);
    v->chunks =
        mmap(NULL, CORRAL_VSOCK_KEPT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (v->chunks == MAP_FAILED)
        v->chunks = NULL;
    if (!v->connections || !v->chunk_next || !v->chunks)
        return false;
    for (uint32_t i = 0; i < v->config.most; i++)
        v->connections[i] =
            (struct corral_vsock_connection){.fd = -1, .next = i + 1 < v->config.most ? i + 1 : CORRAL_VSOCK_NONE};
    v->free = 0;
    v->chunk_free = v->due_first = v->due_last = CORRAL_VSOCK_NONE;
    memset(v->buckets, 0xff, sizeof v->buckets);
    return true;
}

void corral_vsock_table_destroy(struct corral_vsock *v)
{
    if (v->connections)
        corral_vsock_clear(v); /* those of a device that was paused */
    free(v->connections);
    free(v->chunk_next);
    if (v->chunks)
        munmap(v->chunks, CORRAL_VSOCK_KEPT);
}

void corral_vsock_clear(struct corral_vsock *v)
{
    for (uint32_t i = 0; i < v->config.most; i++)
        if (v->connections[i].state != CORRAL_VSOCK_FREE)
            corral_vsock_remove(v, &v->connections[i]);
    v->n_resets = 0;
    v->to_guest_held = v->owes_event = v->awaits_driver = false;
}

static uint32_t *bucket(struct corral_vsock *v, uint32_t guest_port, uint32_t host_port)
{
    uint32_t mixed = (guest_port ^ host_port * 0x9e3779b1u) * 0x85ebca6bu;
    return &v->buckets[mixed >> 20 & (CORRAL_VSOCK_BUCKETS - 1)];
}

struct corral_vsock_connection *corral_vsock_find(struct corral_vsock *v, uint32_t guest_port, uint32_t host_port)
{
    for (uint32_t i = *bucket(v, guest_port, host_port); i != CORRAL_VSOCK_NONE; i = v->connections[i].next) {
        struct corral_vsock_connection *c = &v->connections[i];
        if (c->guest_port == guest_port && c->host_port == host_port)
            return c;
    }
    return NULL;
}

struct corral_vsock_connection *corral_vsock_add(struct corral_vsock *v, enum corral_vsock_state state, int fd)
{
    if (v->free == CORRAL_VSOCK_NONE)
        return NULL;
    struct corral_vsock_connection *c = &v->connections[v->free];
    const uint32_t generation = c->generation + 1;
    v->free = c->next;
    *c = (struct corral_vsock_connection){.state = state,
                                          .generation = generation & 0x7fffffff,
                                          .next = CORRAL_VSOCK_NONE,
                                          .first = CORRAL_VSOCK_NONE,
                                          .last = CORRAL_VSOCK_NONE,
                                          .fd = fd};
    corral_vsock_count(&v->stats.connections, 1);
    return c;
}

/* Whether it is in a bucket, where the guest's packets find it. */
static bool is_named(const struct corral_vsock_connection *c)
{
    return c->state != CORRAL_VSOCK_FREE && c->state != CORRAL_VSOCK_NAMING;
}

void corral_vsock_name(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t guest_port,
                       uint32_t host_port)
{
    uint32_t *head = bucket(v, guest_port, host_port);
    c->guest_port = guest_port;
    c->host_port = host_port;
    c->next = *head;
    *head = INDEX(v, c);
}

uint32_t corral_vsock_new_port(struct corral_vsock *v, uint32_t guest_port)
{
    uint32_t port;
    do { /* there are fewer connections than ports */
        port = CORRAL_VSOCK_FIRST_PORT + (v->next_port++ & (CORRAL_VSOCK_FIRST_PORT - 1));
    } while (corral_vsock_find(v, guest_port, port));
    return port;
}

static void unlink_due(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    const uint32_t before = c->due_before, after = c->due_next;
    *(before == CORRAL_VSOCK_NONE ? &v->due_first : &v->connections[before].due_next) = after;
    *(after == CORRAL_VSOCK_NONE ? &v->due_last : &v->connections[after].due_before) = before;
    c->due = false;
}

void corral_vsock_remove(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    corral_vsock_close_socket(v, c);
    if (is_named(c)) {
        uint32_t *link = bucket(v, c->guest_port, c->host_port);
        while (*link != INDEX(v, c))
            link = &v->connections[*link].next;
        *link = c->next;
    }
    if (c->due)
        unlink_due(v, c);
    c->state = CORRAL_VSOCK_FREE;
    c->next = v->free;
    v->free = INDEX(v, c);
    __atomic_fetch_sub(&v->stats.connections, 1, __ATOMIC_RELAXED);
    if (v->greets && corral_vsock_token(v, c) == v->first)
        v->greets = false;
    if (!v->listening && !v->greets)
        corral_vsock_listen(v, true);
}

void corral_vsock_close_socket(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->readable = false;
    corral_vsock_forget(v, c, c->kept);
}

/* --- those that have something for the guest --- */

void corral_vsock_is_due(struct corral_vsock *v, struct corral_vsock_connection *c)
{
    if (c->due)
        return;
    c->due = true;
    c->due_next = CORRAL_VSOCK_NONE;
    c->due_before = v->due_last;
    *(v->due_last == CORRAL_VSOCK_NONE ? &v->due_first : &v->connections[v->due_last].due_next) = INDEX(v, c);
    v->due_last = INDEX(v, c);
}

void corral_vsock_owe(struct corral_vsock *v, struct corral_vsock_connection *c, unsigned owes)
{
    c->owes |= owes;
    corral_vsock_is_due(v, c);
}

struct corral_vsock_connection *corral_vsock_next_due(struct corral_vsock *v)
{
    if (v->due_first == CORRAL_VSOCK_NONE)
        return NULL;
    struct corral_vsock_connection *c = &v->connections[v->due_first];
    unlink_due(v, c);
    return c;
}

uint64_t corral_vsock_token(const struct corral_vsock *v, const struct corral_vsock_connection *c)
{
    return (uint64_t)c->generation << 32 | INDEX(v, c);
}

struct corral_vsock_connection *corral_vsock_by_token(struct corral_vsock *v, uint64_t token)
{
    const uint32_t index = token;
    if (index >= v->config.most)
        return NULL;
    struct corral_vsock_connection *c = &v->connections[index];
    return c->state != CORRAL_VSOCK_FREE && c->generation == token >> 32 ? c : NULL;
}

/* --- what waits for programs of the host --- */

bool corral_vsock_can_keep(const struct corral_vsock *v)
{
    return v->chunks_kept + CORRAL_VSOCK_WINDOW / CORRAL_VSOCK_CHUNK + 1 <= CORRAL_VSOCK_CHUNKS;
}

static uint32_t take_chunk(struct corral_vsock *v)
{
    const uint32_t chunk = v->chunk_free;
    v->chunks_kept++;
    if (chunk == CORRAL_VSOCK_NONE)
        return v->chunks_used++;
    v->chunk_free = v->chunk_next[chunk];
    return chunk;
}

void corral_vsock_keep(struct corral_vsock *v, struct corral_vsock_connection *c, const uint8_t *data, size_t size)
{
    while (size) {
        if (!c->kept || c->end == CORRAL_VSOCK_CHUNK) {
            const uint32_t chunk = take_chunk(v);
            v->chunk_next[chunk] = CORRAL_VSOCK_NONE;
            if (c->kept)
                v->chunk_next[c->last] = chunk;
            else
                c->first = chunk, c->at = 0;
            c->last = chunk;
            c->end = 0;
        }
        const size_t room = CORRAL_VSOCK_CHUNK - c->end, part = size < room ? size : room;
        memcpy(v->chunks + (size_t)c->last * CORRAL_VSOCK_CHUNK + c->end, data, part);
        c->end += part;
        c->kept += part;
        data += part;
        size -= part;
    }
}

unsigned corral_vsock_kept(const struct corral_vsock *v, const struct corral_vsock_connection *c,
                           struct iovec *iov, unsigned most)
{
    uint32_t left = c->kept, at = c->at, chunk = c->first;
    unsigned n = 0;
    for (; left && n < most; n++) {
        const uint32_t room = CORRAL_VSOCK_CHUNK - at, part = left < room ? left : room;
        iov[n] = (struct iovec){v->chunks + (size_t)chunk * CORRAL_VSOCK_CHUNK + at, part};
        left -= part;
        at = 0;
        chunk = v->chunk_next[chunk];
    }
    return n;
}

void corral_vsock_forget(struct corral_vsock *v, struct corral_vsock_connection *c, uint32_t size)
{
    c->kept -= size;
    c->at += size;
    while (c->first != CORRAL_VSOCK_NONE && (c->at >= CORRAL_VSOCK_CHUNK || !c->kept)) {
        const uint32_t chunk = c->first;
        c->first = v->chunk_next[chunk];
        c->at = c->at >= CORRAL_VSOCK_CHUNK ? c->at - CORRAL_VSOCK_CHUNK : 0;
        v->chunk_next[chunk] = v->chunk_free;
        v->chunk_free = chunk;
        v->chunks_kept--;
    }
}
