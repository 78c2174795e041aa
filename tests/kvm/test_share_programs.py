"""What people work with, in a shared folder of a guest: git, make, sqlite, tar. The host looks at what they left."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel

OPTIONS = ["", pytest.param(",msize=512000,cache=mmap", marks=pytest.mark.long)]

# This host's root, to be read, with the shared folder on /mnt.
ENTER = """
mkdir /r && mount -t 9p -o trans=virtio,msize=512000,cache=loose,ro root /r &&
mount -t proc proc /r/proc && mount -t tmpfs tmp /r/tmp && mount -t devtmpfs dev /r/dev &&
mount -t 9p -o trans=virtio{options} data /r/mnt &&
exec env HOME=/tmp PATH=/usr/bin:/bin chroot /r /bin/bash -euc '
cd /mnt
{script}
'
"""

GIT = """
git config --global user.name guest
git config --global user.email guest@corral
git config --global init.defaultBranch main
git init -q repository; cd repository
for folder in $(seq 5); do
    mkdir -p deep/$folder
    for file in $(seq 10); do echo $folder $file >deep/$folder/$file; done
done
git add -A; git commit -qm first
test -z "$(git status --porcelain)"
git checkout -qb other; git mv deep/1 deep/one; echo changed >deep/2/2; git commit -qam other
git checkout -q main; echo more >>deep/3/3; git commit -qam main; git merge -qm merged other
chmod +x deep/4/4; ln -s deep/one link; git add -A; git commit -qm modes
git stash -q 2>/dev/null || true; git gc -q; git fsck --strict
cd ..; git clone -q repository clone; cd clone
test "$(cat deep/one/1)" = "1 1"; test -x deep/4/4; test -L link
git log --oneline | wc -l
"""

MAKE = """
mkdir -p project/source; cd project
for number in $(seq 20); do echo "int f$number(void) { return $number; }" >source/$number.c; done
echo "int f7(void); int main(void) { return f7(); }" >source/main.c
echo "OBJECTS := \\$(patsubst %.c,%.o,\\$(wildcard source/*.c))" >Makefile
printf "program: \\$(OBJECTS)\\n\\tcc -o \\$@ \\$^\\n" >>Makefile
make -sj4; ./program || echo $?
make -q
touch source/3.c; ! make -q; make -s; make -q
"""

SQLITE = """
sqlite3 base.db "create table numbers (writer, number)"
for writer in 1 2 3; do
    (echo "pragma busy_timeout=60000;"
    for number in $(seq 20); do echo "insert into numbers values ($writer, $number);"; done) |
        sqlite3 base.db >/dev/null &
done
wait
sqlite3 base.db "pragma integrity_check; select count(*) from numbers; vacuum"
"""

TAR = """
mkdir tree; cd tree
for number in $(seq 20); do
    mkdir -p a/b$number/c
    head -c $((number * 1000)) /dev/urandom >a/b$number/c/file
done
ln a/b1/c/file hard; ln -s a/b2 soft; mkfifo fifo; touch -d 2001-02-03 a/b3/c/file; chmod 751 a/b4; chown 12:34 a/b5
cd ..; tar cf archive.tar tree; mkdir copy; tar xf archive.tar -C copy; tar df archive.tar -C copy
mv tree moved; cp -a moved again; diff -r --no-dereference moved/a again/a; rm -r again
flock lock -c "echo locked"
"""


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    if os.geteuid() != 0:
        pytest.skip("of this host's root its user alone may read all")
    initramfs.path()  # which says so while it is built


def run(folder: Path, script: str, options: str = "") -> str:
    shares = ["--share", "/,tag=root", "--share", f"{folder},tag=data,rw"]
    corral = [sys.executable, "-m", "corral", "boot", kernel.get(kernel.SMALL).path, "--memory", "768M", *shares]
    line = ENTER.format(options=options, script=script)
    done = subprocess.run([*corral, "--timeout", "240", "--", line], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def here(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("options", OPTIONS)
def test_git(tmp_path: Path, options: str) -> None:
    assert run(tmp_path, GIT, options).split()[-1] == "5"
    safe = ["git", "-c", "safe.directory=*"]
    for name in ("repository", "clone"):
        here(*safe, "-C", str(tmp_path / name), "fsck", "--strict")
        assert here(*safe, "-C", str(tmp_path / name), "status", "--porcelain") == ""
    assert (tmp_path / "clone" / "deep" / "2" / "2").read_text() == "changed\n"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.long
def test_make(tmp_path: Path, options: str) -> None:
    assert run(tmp_path, MAKE, options).split() == ["7"]
    project = tmp_path / "project"
    assert subprocess.run([str(project / "program")]).returncode == 7
    here("make", "-q", "-C", str(project))


@pytest.mark.parametrize("options", OPTIONS)
def test_sqlite_with_three_writers(tmp_path: Path, options: str) -> None:
    assert run(tmp_path, SQLITE, options).split() == ["ok", "60"]
    base = str(tmp_path / "base.db")
    assert here("sqlite3", base, "pragma integrity_check; select sum(number) from numbers").split() == ["ok", "630"]


def test_a_lock_of_the_host_s_holds_a_guest_up(tmp_path: Path) -> None:
    here("sqlite3", str(tmp_path / "base.db"), "create table numbers (number)")
    with open(tmp_path / "base.db", "r+b") as base:
        fcntl.lockf(base, fcntl.LOCK_EX)
        assert "locked" in run(tmp_path, 'sqlite3 base.db "insert into numbers values (1)" 2>&1 || true')
    run(tmp_path, 'sqlite3 base.db "insert into numbers values (2)"')
    assert here("sqlite3", str(tmp_path / "base.db"), "select * from numbers") == "2\n"


@pytest.mark.long
def test_archives_and_trees(tmp_path: Path) -> None:
    assert run(tmp_path, TAR).split() == ["locked"]
    copy = tmp_path / "copy" / "tree"
    assert copy.joinpath("hard").stat().st_nlink == 2
    assert os.readlink(copy / "soft") == "a/b2"
    assert copy.joinpath("a/b3/c/file").stat().st_mtime == pytest.approx(981_158_400, abs=86_400)
    assert copy.joinpath("a/b4").stat().st_mode == 0o040751
    assert (copy.joinpath("a/b5").stat().st_uid, copy.joinpath("a/b5").stat().st_gid) == (12, 34)
    assert not (tmp_path / "again").exists()
    here("diff", "-r", str(copy / "a"), str(tmp_path / "moved" / "a"))
    shutil.rmtree(tmp_path / "copy")


def test_a_folder_to_be_read_is_worked_with(tmp_path: Path) -> None:
    """Read locks and all."""
    here("sqlite3", str(tmp_path / "base.db"), "create table numbers (number); insert into numbers values (7)")
    shares = ["--share", f"{tmp_path},tag=data", "--share", "/,tag=root"]
    corral = [sys.executable, "-m", "corral", "boot", kernel.get(kernel.SMALL).path, *shares, "--timeout", "240", "--"]
    script = 'sqlite3 base.db "select * from numbers"; ! touch new 2>/dev/null'
    line = ENTER.format(options="", script=script)
    done = subprocess.run([*corral, line], capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["base.db"]
