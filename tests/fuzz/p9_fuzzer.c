/* A guest that means harm to a shared folder's server, by coverage: an input is a sequence of messages.
 *
 * libFuzzer's harness over the server's handlers (csrc/p9server), without its jail, in one thread: the folder is
 * made anew for each input. Beside the sanitizers it checks that each message has one answer, which is whole and
 * of its kind or an error; that nothing outside of the folder changes, and nothing that its user's rights depend
 * on is made; and that no descriptor is left when the guest has begun anew. */
#define _GNU_SOURCE
#include "../../csrc/p9server/locks.h"
#include "../../csrc/p9server/server.h"
#include "input.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_MESSAGES 48
#define LONGEST 512           /* of a message's fields */
#define MOST_BYTES (1u << 20) /* that a file may have: a quota for the host's disk */
#define SECRET "what is not the guest's"

static char base[] = "/dev/shm/corral-p9-XXXXXX"; /* in memory: it is made anew for each input */
static char folder[64], secret[64];
static struct p9_worker *worker;
static uint8_t question[CORRAL_P9_MESSAGE_MAX], answer[CORRAL_P9_MESSAGE_MAX];

_Noreturn void p9_give_up(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    abort();
}

/* --- the folder --- */

static int take_away(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about, (void)kind;
    return where->level ? remove(path) : 0;
}

static int look_at(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)path, (void)kind, (void)where;
    require(!(about->st_mode & (S_ISUID | S_ISGID)));
    require(!S_ISCHR(about->st_mode) && !S_ISBLK(about->st_mode));
    return 0;
}

static void make(const char *name, const char *content)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    require(fd >= 0 && write(fd, content, strlen(content)) >= 0);
    close(fd);
}

static void make_folder(void)
{
    char path[128];
    require(nftw(folder, take_away, 16, FTW_DEPTH | FTW_PHYS) == 0);
    require(chmod(folder, 0755) == 0);
    make("file", "some content");
    make("other", "");
    snprintf(path, sizeof path, "%s/sub", folder);
    require(mkdir(path, 0755) == 0);
    make("sub/deep", "deep");
    snprintf(path, sizeof path, "%s/link", folder);
    require(symlink("../secret", path) == 0);
    snprintf(path, sizeof path, "%s/fifo", folder);
    require(mkfifo(path, 0644) == 0);
}

static void check_secret(void)
{
    char content[64] = "";
    struct stat about;
    int fd = open(secret, O_RDONLY);
    require(fd >= 0 && read(fd, content, sizeof content - 1) == (ssize_t)strlen(SECRET) && fstat(fd, &about) == 0);
    require(!strcmp(content, SECRET) && about.st_nlink == 1 && (about.st_mode & 07777) == 0600);
    close(fd);
    DIR *around = opendir(base);
    unsigned names = 0;
    while (readdir(around))
        names++;
    closedir(around);
    require(names == 4);
}

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *all = opendir("/proc/self/fd");
    while (readdir(all))
        n++;
    closedir(all);
    return n;
}

/* --- messages --- */

static void put_name(struct p9_answer *out, struct input *in)
{
    static const char *const names[] = {"file",
                                        "other",
                                        "sub",
                                        "deep",
                                        "link",
                                        "fifo",
                                        "new",
                                        "..",
                                        "../secret",
                                        "sub/..",
                                        "user.one",
                                        "",
                                        "security.capability"};
    uint8_t which = take(in, 1);
    if (which < sizeof names / sizeof *names) {
        p9_put_string(out, names[which]);
        return;
    }
    uint8_t n = take(in, 1);
    p9_put16(out, which & 1 ? n : n + which);
    for (; n; n--)
        p9_put8(out, take(in, 1));
}

/* A fid that is likely there: there are few. */
static void put_fid(struct p9_answer *out, struct input *in)
{
    p9_put32(out, take(in, 1) % 8);
}

/* The fields of each kind by letters: f a fid, n a name, 1 2 4 8 numbers of so many bytes that are often small, L
 * M four and eight bytes of any value, w the names of a walk, d data. */
static const char *const fields[CORRAL_P9_KINDS] = {
    [CORRAL_P9_T_STATFS] = "f",         [CORRAL_P9_T_LOPEN] = "fL",           [CORRAL_P9_T_LCREATE] = "fnLL4",
    [CORRAL_P9_T_SYMLINK] = "fnn4",     [CORRAL_P9_T_MKNOD] = "fnL444",       [CORRAL_P9_T_READLINK] = "f",
    [CORRAL_P9_T_GETATTR] = "fM",       [CORRAL_P9_T_SETATTR] = "f4L448MMMM", [CORRAL_P9_T_XATTRWALK] = "ffn",
    [CORRAL_P9_T_XATTRCREATE] = "fn84", [CORRAL_P9_T_READDIR] = "f84",        [CORRAL_P9_T_FSYNC] = "f4",
    [CORRAL_P9_T_LOCK] = "f148M4n",     [CORRAL_P9_T_GETLOCK] = "f1884n",     [CORRAL_P9_T_LINK] = "ffn",
    [CORRAL_P9_T_MKDIR] = "fnL4",       [CORRAL_P9_T_RENAMEAT] = "fnfn",      [CORRAL_P9_T_UNLINKAT] = "fn4",
    [CORRAL_P9_T_VERSION] = "Ln",       [CORRAL_P9_T_ATTACH] = "fLnn4",       [CORRAL_P9_T_FLUSH] = "2",
    [CORRAL_P9_T_WALK] = "ffw",         [CORRAL_P9_T_READ] = "f84",           [CORRAL_P9_T_WRITE] = "f8d",
    [CORRAL_P9_T_CLUNK] = "f",          [CORRAL_P9_T_REMOVE] = "f",
};

static void put_field(struct p9_answer *out, struct input *in, char field)
{
    unsigned n;
    switch (field) {
    case 'f':
        put_fid(out, in);
        break;
    case 'n':
        put_name(out, in);
        break;
    case 'w':
        n = take(in, 1) % 4;
        p9_put16(out, n);
        while (n--)
            put_name(out, in);
        break;
    case 'd':
        n = take(in, 1);
        p9_put32(out, n);
        for (; n; n--)
            p9_put8(out, n);
        break;
    case 'L':
        p9_put32(out, take(in, 4));
        break;
    case 'M':
        p9_put64(out, take(in, 8));
        break;
    case '1':
        p9_put8(out, take(in, 1) % 4);
        break;
    default:
        n = take(in, 1);
        p9_put(out, n < 0xc0 ? n : n < 0xf0 ? take(in, 2) : take(in, 8), field - '0');
    }
}

/* One message, well-formed or not, and its answer. */
static void exchange(struct input *in)
{
    static const uint8_t kinds[] = {
        CORRAL_P9_T_WALK,      CORRAL_P9_T_WALK,    CORRAL_P9_T_WALK,        CORRAL_P9_T_LOPEN,
        CORRAL_P9_T_LOPEN,     CORRAL_P9_T_LCREATE, CORRAL_P9_T_READ,        CORRAL_P9_T_WRITE,
        CORRAL_P9_T_READDIR,   CORRAL_P9_T_CLUNK,   CORRAL_P9_T_GETATTR,     CORRAL_P9_T_SETATTR,
        CORRAL_P9_T_XATTRWALK, CORRAL_P9_T_STATFS,  CORRAL_P9_T_XATTRCREATE, CORRAL_P9_T_LOCK,
        CORRAL_P9_T_LOCK,      CORRAL_P9_T_GETLOCK, CORRAL_P9_T_LINK,        CORRAL_P9_T_MKDIR,
        CORRAL_P9_T_SYMLINK,   CORRAL_P9_T_MKNOD,   CORRAL_P9_T_RENAMEAT,    CORRAL_P9_T_FSYNC,
        CORRAL_P9_T_UNLINKAT,  CORRAL_P9_T_VERSION, CORRAL_P9_T_ATTACH,      CORRAL_P9_T_READLINK,
        CORRAL_P9_T_FLUSH,     CORRAL_P9_T_REMOVE,
    };
    uint8_t which = take(in, 1), kind = which < sizeof kinds ? kinds[which] : which;
    struct p9_answer out = {.at = question + CORRAL_P9_HEADER, .end = question + CORRAL_P9_HEADER + LONGEST};
    const char *form = kind < CORRAL_P9_KINDS && fields[kind] ? fields[kind] : "MM";
    for (; *form; form++)
        put_field(&out, in, *form);
    uint32_t size = out.at - question;
    uint8_t damage = take(in, 1);
    if (damage >= 224) /* shorter than it should be */
        size -= damage % (size - CORRAL_P9_HEADER + 1);
    struct p9_answer header = {.at = question, .end = question + CORRAL_P9_HEADER};
    p9_put32(&header, size);
    p9_put8(&header, kind);
    p9_put16(&header, 7);
    /* The sanitizer sees what is read behind its end. */
    uint8_t *message = malloc(size);
    memcpy(message, question, size);
    uint32_t got = p9_answer_to(worker, message, size, answer);
    free(message);
    require(got >= CORRAL_P9_HEADER && got <= sizeof answer && corral_p9_get32(answer) == got);
    require(corral_p9_get16(answer + 5) == 7);
    require(answer[4] == kind + 1 || (answer[4] == CORRAL_P9_R_LERROR && got == CORRAL_P9_HEADER + 4));
    if (answer[4] == CORRAL_P9_R_LERROR && kind != CORRAL_P9_R_LERROR - 1)
        require(corral_p9_get32(answer + CORRAL_P9_HEADER) - 1 < 4095);
}

/* A message that has to work: n is a name, digits are numbers of so many bytes. */
static void ask(uint8_t kind, const char *form, ...)
{
    struct p9_answer out = {.at = question + CORRAL_P9_HEADER, .end = question + sizeof question};
    va_list values;
    va_start(values, form);
    for (; *form; form++) {
        if (*form == 'n')
            p9_put_string(&out, va_arg(values, const char *));
        else
            p9_put(&out, va_arg(values, uint32_t), *form - '0');
    }
    va_end(values);
    question[4] = kind;
    require(p9_answer_to(worker, question, out.at - question, answer) >= CORRAL_P9_HEADER);
    require(answer[4] == kind + 1);
}

/* Fid 0 is the folder; 1 and 2 are its file, open, and 3 is a folder that is. */
static void begin_anew(void)
{
    uint32_t flags = p9_config.read_only ? O_RDONLY : O_RDWR;
    ask(CORRAL_P9_T_VERSION, "4n", 8192u, "9P2000.L");
    ask(CORRAL_P9_T_ATTACH, "44nn4", 0u, P9_NO_FID, "user", "tree", 0u);
    for (uint32_t fid = 1; fid <= 2; fid++) {
        ask(CORRAL_P9_T_WALK, "442n", 0u, fid, 1u, "file");
        ask(CORRAL_P9_T_LOPEN, "44", fid, flags);
    }
    ask(CORRAL_P9_T_WALK, "442", 0u, 3u, 0u);
    ask(CORRAL_P9_T_LOPEN, "44", 3u, (uint32_t)O_RDONLY);
}

static void finish(void)
{
    nftw(base, take_away, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(base);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct statx about;
    const struct rlimit quota = {MOST_BYTES, MOST_BYTES};
    (void)argc, (void)argv;
    require(mkdtemp(base));
    atexit(finish);
    snprintf(folder, sizeof folder, "%s/folder", base);
    snprintf(secret, sizeof secret, "%s/secret", base);
    require(mkdir(folder, 0755) == 0);
    int fd = open(secret, O_CREAT | O_WRONLY, 0600);
    require(fd >= 0 && write(fd, SECRET, strlen(SECRET)) == (ssize_t)strlen(SECRET));
    close(fd);
    int shared = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    require(statx(shared, "", AT_EMPTY_PATH, STATX_MNT_ID, &about) == 0);
    p9_config = (struct p9_config){.folder = shared,
                                   .mount = about.stx_mnt_id,
                                   .as_root = geteuid() == 0,
                                   .uid = geteuid(),
                                   .gid = getegid()};
    umask(0);
    require(setrlimit(RLIMIT_FSIZE, &quota) == 0 && chdir("/proc/self/fd") == 0);
    p9_fids_init(P9_MOST_FIDS);
    worker = p9_worker(0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    signal(SIGXFSZ, SIG_IGN); /* which libFuzzer takes for the end */
    p9_config.read_only = take(&in, 1) & 1;
    make_folder();
    ask(CORRAL_P9_T_VERSION, "4n", 8192u, "9P2000.L");
    unsigned before = descriptors();
    begin_anew();
    for (unsigned i = 0; i < MOST_MESSAGES && in.at < in.end; i++)
        exchange(&in);
    ask(CORRAL_P9_T_VERSION, "4n", 8192u, "9P2000.L");
    require(descriptors() == before);
    require(nftw(folder, look_at, 16, FTW_PHYS) == 0);
    check_secret();
    return 0;
}
