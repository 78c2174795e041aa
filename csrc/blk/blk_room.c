/* How much an overlay may hold: what would be more fails before it is written. A granule counts for good once it
 * is written. If a discard gave it back, a write that races with the discard could leave bytes that nothing
 * counts. */
#include "blk_device.h"

#include <errno.h>
#include <stdlib.h>

struct corral_blk_room {
    pthread_mutex_t lock;  /* all below; taken alone */
    uint64_t n_held, most; /* granules */
    bool refused;          /* more were wanted */
    uint64_t held[];       /* a bit a granule */
};

struct corral_blk_room *corral_blk_room_create(const struct corral_blk_config *c)
{
    struct corral_blk_room *room = calloc(1, sizeof *room + corral_blk_map_size(c->size));
    if (!room)
        return NULL;
    uint64_t most = c->overlay_most && c->overlay_most < c->size ? c->overlay_most : c->size + CORRAL_BLK_GRANULE;
    room->most = most / CORRAL_BLK_GRANULE;
    pthread_mutex_init(&room->lock, NULL);
    return room;
}

void corral_blk_room_destroy(struct corral_blk_room *room)
{
    if (!room)
        return;
    pthread_mutex_destroy(&room->lock);
    free(room);
}

static bool is_held(const struct corral_blk_room *room, uint64_t granule)
{
    return room->held[granule / 64] >> (granule % 64) & 1;
}

bool corral_blk_room_take(struct corral_blk_room *room, uint64_t offset, uint64_t length)
{
    uint64_t first = offset / CORRAL_BLK_GRANULE, more = 0;
    uint64_t end = (offset + length + CORRAL_BLK_GRANULE - 1) / CORRAL_BLK_GRANULE;
    pthread_mutex_lock(&room->lock);
    for (uint64_t g = first; g < end; g++)
        more += !is_held(room, g);
    bool fits = more <= room->most - room->n_held;
    if (fits && more) {
        for (uint64_t g = first; g < end; g++)
            room->held[g / 64] |= 1ull << g % 64;
        room->n_held += more;
    }
    room->refused |= !fits;
    pthread_mutex_unlock(&room->lock);
    return fits;
}

bool corral_blk_room_is_full(struct corral_blk_room *room)
{
    pthread_mutex_lock(&room->lock);
    bool full = room->refused;
    pthread_mutex_unlock(&room->lock);
    return full;
}
