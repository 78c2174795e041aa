/* Names and descriptors below the shared folder. */
#ifndef P9_TREE_H
#define P9_TREE_H

#include "server.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>

/* For as long as a fid is used by a handler: `struct p9_fid *fid P9_USES = p9_fid_get(number);` */
#define P9_USES __attribute__((cleanup(p9_put_at_end)))

static inline void p9_put_at_end(struct p9_fid **fid)
{
    p9_fid_put(*fid);
}

/* "17" for descriptor 17: a path in the working folder. It leads to the file itself, a symbolic link's too. */
struct p9_fd_path {
    char text[12];
};

struct p9_fd_path p9_fd_path(int fd);

/* A name in a folder: no slash, no "." and no "..". EINVAL otherwise, ENAMETOOLONG. */
int p9_get_name(struct p9_question *q, char name[P9_NAME_SIZE]);

/* What a folder has by that name, as an O_PATH descriptor, and its statx by P9_QID_MASK. With such a name and
 * without following links nothing above or elsewhere can be reached, but for what is mounted there: that is
 * -EXDEV, with `about` of it. Or another -errno. */
int p9_look_up(int folder, const char *name, struct statx *about);

/* Opens what a descriptor is of once more, with other flags. A descriptor or -errno. */
int p9_open_again(int fd, int flags);

/* The fid's folder for names in it: a descriptor, or -errno (-ENOTDIR, -EXDEV for a mount point). */
int p9_folder_of(const struct p9_fid *fid);

/* By statx(2), of a descriptor. 0 or an errno. */
int p9_statx(int fd, unsigned mask, struct statx *about);

struct p9_qid p9_qid(const struct statx *about);
#define P9_QID_MASK (STATX_TYPE | STATX_INO | STATX_BTIME | STATX_MNT_ID)

/* From here on what this thread makes belongs to that user and group of the guest; then to the process's again. It
 * concerns root's server alone: the files of another one's are that user's. */
void p9_make_as(const struct p9_fid *fid, uint32_t gid);
void p9_make_as_self(void);

/* Users and groups as the guest has them. Where the server is not root's, its user is the guest's root, and all
 * others are nobody. */
uint32_t p9_uid_to_guest(uint32_t uid);
uint32_t p9_gid_to_guest(uint32_t gid);
/* 0 or an errno. */
int p9_ids_from_guest(uint32_t *uid, uint32_t *gid);

#endif
