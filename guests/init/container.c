/* The first process of a guest that runs a container image (`corral run`): mounts the image, which is only read,
 * with a layer over it that takes what is written, and runs a command there (docs/run.md).
 *
 * /dev/vda is the image, an EROFS; /dev/vdb the layer, an ext4 that is empty or was kept. Nothing of the layer and
 * of the command is touched before the host has told what the session is: until then all guests of an image are
 * the same, and can be saved. */

#include "container.h"
#include "agent.h"
#include "early.h"
#include "network.h"

#define MNT_DETACH 2 /* sys/mount.h, which is a C library's */
#define CANNOT 126
#define MISSING 127

static char session_text[64 * 1024];
static int files[3]; /* of the initramfs: hostname, hosts, resolv.conf */
static const char *const names[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};

/* A folder and those above it. */
static void make_folders(const char *path)
{
    static char part[4096];
    copy_text(part, path, sizeof part);
    for (char *at = part + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            SYSCALL(mkdir, part, 0755, 0, 0, 0);
            *at = '/';
        }
    SYSCALL(mkdir, part, 0755, 0, 0, 0);
}

static void mount_at(const char *type, const char *where, word flags, const char *options)
{
    make_folders(where);
    SYSCALL(mount, type, where, type, flags, options);
}

/* --- before the session --- */

static void mount_image(void)
{
    SYSCALL(mkdir, "/image", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/layer", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/root", 0755, 0, 0, 0);
    must_mount("/dev/vda", "/image", "erofs", MS_RDONLY, 0);
}

/* --- the session's root --- */

static void write_text(int fd, const char *text)
{
    SYSCALL(write, fd, text, length(text), 0, 0);
}

/* What is to be seen at `names`, so that an image without such files, or one that is read only, has them too. */
static void write_files(void)
{
    for (int i = 0; i < 3; i++)
        files[i] = (int)SYSCALL(open, names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0644, 0, 0);
    write_text(files[0], asked.hostname);
    write_text(files[0], "\n");
    write_text(files[1], "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t");
    write_text(files[1], asked.hostname);
    write_text(files[1], "\n");
    SYSCALL(sethostname, asked.hostname, length(asked.hostname), 0, 0, 0);
}

static void mount_root(void)
{
    must_mount("/dev/vdb", "/layer", "ext4", MS_NOATIME, 0);
    SYSCALL(mkdir, "/layer/upper", 0755, 0, 0, 0);
    SYSCALL(mkdir, "/layer/work", 0755, 0, 0, 0);
    must_mount("overlay", "/root", "overlay", 0, "lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work");
    SYSCALL(umount2, "/proc", MNT_DETACH, 0, 0, 0);
    SYSCALL(umount2, "/sys", MNT_DETACH, 0, 0, 0);
    SYSCALL(mkdir, "/root/dev", 0755, 0, 0, 0);
    SYSCALL(mount, "/dev", "/root/dev", 0, MS_MOVE, 0);
    SYSCALL(chdir, "/root", 0, 0, 0, 0);
    SYSCALL(mount, ".", "/", 0, MS_MOVE, 0);
    SYSCALL(chroot, ".", 0, 0, 0, 0);
    SYSCALL(chdir, "/", 0, 0, 0, 0);
}

static void mount_systems(void)
{
    const word plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount_at("proc", "/proc", plain, 0);
    mount_at("sysfs", "/sys", plain, 0);
    mount_at("cgroup2", "/sys/fs/cgroup", plain, 0);
    mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5");
    mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("mqueue", "/dev/mqueue", plain, 0);
    link_streams();
}

static void bind_files(void)
{
    char path[32];
    SYSCALL(mkdir, "/etc", 0755, 0, 0, 0);
    for (int i = 0; i < 3; i++) {
        char byte;
        if (SYSCALL(pread64, files[i], &byte, 1, 0, 0) != 1)
            continue; /* without a network the image keeps its own */
        append_number(append_text(path, "/proc/self/fd/"), (word)files[i]);
        SYSCALL(mknod, names[i], S_IFREG | 0644, 0, 0, 0);
        if (SYSCALL(mount, path, names[i], 0, MS_BIND, 0) < 0) { /* a link that leads nowhere */
            SYSCALL(unlink, names[i], 0, 0, 0, 0);
            SYSCALL(mknod, names[i], S_IFREG | 0644, 0, 0, 0);
            SYSCALL(mount, path, names[i], 0, MS_BIND, 0);
        }
    }
}

static void mount_volumes(void)
{
    for (int i = 0; i < asked.n_mounts; i++) {
        char *first = (char *)asked.mounts[i], *path = first;
        while (*path && *path != ':')
            path++;
        if (*path)
            *path++ = 0;
        if (asked.kinds[i] == MEMORY) {
            make_folders(path);
            must_mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, first);
            continue;
        }
        word flags = begins(path, "ro:") ? MS_RDONLY : 0;
        path += 3;
        make_folders(path);
        must_mount(first, path, "9p", flags,
                   "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client");
    }
}

static void make_root(void)
{
    write_files();
    mount_root();
    mount_systems();
    bind_files();
    make_folders(asked.folder);
    mount_volumes();
    if (asked.read_only)
        must_mount(0, "/", "read-only", MS_REMOUNT | MS_BIND | MS_RDONLY, 0);
}

/* --- the command --- */

/* Tells why the command cannot be started, and ends as container engines do. */
__attribute__((noreturn)) static void cannot(const char *what, const char *why, int status)
{
    static char text[5000];
    char *at = append_text(text, "corral: ");
    word n = length(what);
    n = n < 4096 ? n : 4096;
    memcpy(at, what, n);
    append_text(append_text(append_text(at + n, ": "), why), "\n");
    SYSCALL(write, 2, text, length(text), 0, 0);
    for (;;)
        SYSCALL(exit_group, status, 0, 0, 0, 0);
}

static void complete_variables(const struct user *user)
{
    static char path[100], home[300], hostname[80], terminal[32];
    set_default(path, sizeof path, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set_default(hostname, sizeof hostname, "HOSTNAME", asked.hostname);
    set_default(home, sizeof home, "HOME", user->home);
    if (!n_streams)
        set_default(terminal, sizeof terminal, "TERM", "xterm");
}

__attribute__((noreturn)) static void become_command(const int *pipes)
{
    static struct user user;
    static const struct rlimit64 open_files = {1024, 524288};
    take_pipes(pipes);
    if (n_streams)
        SYSCALL(setsid, 0, 0, 0, 0, 0);
    const char *why = take_user(&user);
    if (why)
        cannot(asked.user, why, CANNOT);
    for (int i = 0; i < 3; i++) /* so that /dev/stdout can be opened by it */
        SYSCALL(fchown, i, user.uid, -1, 0, 0);
    SYSCALL(prlimit64, 0, RLIMIT_NOFILE, &open_files, 0, 0);
    if (SYSCALL(chdir, asked.folder, 0, 0, 0, 0) < 0)
        cannot(asked.folder, "the command cannot begin in that folder", CANNOT);
    if (SYSCALL(setgroups, user.n_groups, user.groups, 0, 0, 0) < 0 ||
        SYSCALL(setresgid, user.gid, user.gid, user.gid, 0, 0) < 0 ||
        SYSCALL(setresuid, user.uid, user.uid, user.uid, 0, 0) < 0)
        cannot(asked.user, "the kernel takes no such user", CANNOT);
    complete_variables(&user);
    long error = execute();
    if (error == -2)
        cannot(program.words[0], "there is no such program in the image, or not what it is run by", MISSING);
    cannot(program.words[0], error == -13 ? "it is no program that this user may run" : "it cannot be run here",
           CANNOT);
}

/* What is written is either kept, or gone with the guest: then nothing waits for the disk. */
__attribute__((noreturn)) static void end(int status)
{
    if (asked.kept || asked.n_mounts)
        SYSCALL(sync, 0, 0, 0, 0, 0);
    end_channel(status);
    long fd = SYSCALL(open, "/proc/sys/kernel/printk", O_WRONLY, 0, 0, 0);
    SYSCALL(write, fd, "0", 1, 0, 0); /* a terminal shows what the command has written, not the kernel's last words */
    restart();
}

__attribute__((noreturn, used)) static void start(void)
{
    static int pipes[3];
    char mode[16] = "";
    mount("devtmpfs", "/dev");
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    open_console();
    read_file("/proc/cmdline", command_line, sizeof command_line);
    load_modules();
    int agent = open_agent(command_line);
    SYSCALL(mkdir, "/etc", 0755, 0, 0, 0);
    loopback_up();
    network_up(command_line);
    mount_image();
    parameter(command_line, "corral.channel", mode, sizeof mode);
    int has_command = -1;
    word bytes;
    if (open_channel() && (mode[0] != 'p' || open_pipes(pipes)))
        has_command = ask_for_session(session_text, sizeof session_text, &bytes);
    if (has_command < 0)
        give_up("this kernel has no ports of virtio-console (CONFIG_VIRTIO_CONSOLE)");
    if (!has_command || !read_session(session_text, session_text + bytes))
        give_up("what the session is to be makes no sense");
    make_root();
    run_agent(agent);
    int signals = signals_of_the_end();
    long child = SYSCALL(fork, 0, 0, 0, 0, 0);
    if (child == 0)
        become_command(pipes);
    for (int i = 0; i < n_streams; i++)
        SYSCALL(close, pipes[i], 0, 0, 0, 0);
    int status = child < 0 ? CANNOT : serve_until(child, signals, asked.stop);
    drain_streams();
    end(status);
}
