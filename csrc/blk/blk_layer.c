/* What a disk has written over its image, as a file that another disk may have as its layer. */
#define _GNU_SOURCE
#include "blk_device.h"
#include "ram_save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (1u << 20) /* bytes that are copied at once */

static int read_all(int fd, uint8_t *to, uint64_t length, uint64_t offset)
{
    while (length) {
        ssize_t done = pread(fd, to, length, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) /* both files are as long as the disk */
            return done < 0 ? -errno : -EIO;
        to += done, offset += done, length -= done;
    }
    return 0;
}

/* Of the disk, from `at` on. */
static int64_t copy(const struct corral_blk *b, unsigned file, uint8_t *buffer, uint64_t at, uint64_t length,
                    int fd, uint64_t data_at)
{
    uint64_t whole = (length + CORRAL_BLK_GRANULE - 1) / CORRAL_BLK_GRANULE * CORRAL_BLK_GRANULE;
    uint64_t from = file == CORRAL_BLK_LAYER ? b->config.layer_offset + at : at;
    int error = read_all(b->files[file], buffer, length, from);
    if (error)
        return error;
    memset(buffer + length, 0, whole - length);
    return corral_pages_save(fd, data_at + at, buffer, whole);
}

static int64_t copy_granules(const struct corral_blk *b, uint8_t *buffer, int fd, uint64_t data_at)
{
    uint64_t size = b->config.size, length;
    int64_t written = 0;
    for (uint64_t at = 0; at < size; at += length) {
        unsigned file;
        length = corral_overlay_run(b->overlay, at, size - at, &file);
        if (file == CORRAL_BLK_IMAGE)
            continue;
        length = length < PIECE ? length : PIECE;
        int64_t done = copy(b, file, buffer, at, length, fd, data_at);
        if (done < 0)
            return done;
        written += done;
    }
    return written;
}

int64_t corral_blk_save_layer(const struct corral_blk *b, int fd, uint64_t map_at, uint64_t data_at)
{
    if (!b->overlay)
        return -EINVAL;
    uint64_t bytes = corral_blk_map_size(b->config.size);
    uint8_t *buffer = malloc(PIECE);
    uint64_t *map = malloc(bytes);
    int64_t result = -ENOMEM;
    if (buffer && map) {
        corral_overlay_map(b->overlay, map);
        ssize_t done = pwrite(fd, map, bytes, map_at); /* of a regular file: all of it, or there is no room */
        result = done < 0 ? -errno : (uint64_t)done < bytes ? -ENOSPC : copy_granules(b, buffer, fd, data_at);
    }
    free(buffer);
    free(map);
    return result;
}
