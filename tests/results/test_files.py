"""File systems that refuse something: one clear line, nothing half-written, nothing left behind."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nanorepro.results import files
from tests.support.processors import environment

DATA = bytes(range(256)) * 1000
CALLS = ("open", "write", "read", "lseek", "fsync", "mkdir", "link")
ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOTDIR,
    errno.EIO, errno.ENOLCK, errno.ESTALE, errno.ENAMETOOLONG,
)  # fmt: skip
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


@pytest.fixture(params=["unnamed", "private name"])
def kind(request, monkeypatch):
    """With files that have no name until they are whole, and on systems without them."""
    if request.param == "private name":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no O_TMPFILE")
    return request.param


def refuse(monkeypatch, name, number):
    """A function of `os` that the file system refuses."""

    def refused(*arguments, **settings):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refused)


def one_line(error):
    assert len(str(error).splitlines()) == 1
    return str(error)


def outcome(path):
    """What came of writing a file: nothing, or the error."""
    try:
        files.write_new(path, DATA)
    except files.NotWritten as error:
        return error


def test_a_file_is_whole_and_read_only(tmp_path, kind):
    path = tmp_path / "new" / "folder" / "a.h5"
    files.write_new(path, DATA)
    assert path.read_bytes() == DATA == files.read_file(path)
    assert path.stat().st_mode & 0o222 == 0
    assert path.stat().st_nlink == 1
    assert os.listdir(path.parent) == ["a.h5"]


def test_a_file_that_is_there_is_kept(tmp_path, kind):
    path = tmp_path / "a.h5"
    path.write_bytes(b"first")
    with pytest.raises(FileExistsError):
        files.write_new(path, DATA)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_refused_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, call, number, kind):
    path = tmp_path / "runs" / "a.h5"
    with monkeypatch.context() as patch:
        refuse(patch, call, number)
        error = outcome(path)
    if error is not None:
        assert error.errno == number
        line = one_line(error)
        assert str(path) in line or str(path.parent) in line
        assert os.strerror(number) in line
    # a call that this way of writing does not need, or can do without, changes nothing
    written = [p.name for p in (tmp_path / "runs").iterdir()] if path.parent.exists() else []
    assert written in ([], ["a.h5"])
    assert bool(written) == (error is None)
    if written:
        assert path.read_bytes() == DATA
        assert (call, kind) == ("open", "unnamed") or call == "link"


@pytest.mark.parametrize("number", UNSUPPORTED, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["fsync", "link", "fchmod"])
def test_a_file_system_may_lack_it(tmp_path, monkeypatch, call, number, kind):
    with monkeypatch.context() as patch:
        refuse(patch, call, number)
        files.write_new(tmp_path / "a.h5", DATA)
        with pytest.raises(FileExistsError):
            files.write_new(tmp_path / "a.h5", b"other")
    assert (tmp_path / "a.h5").read_bytes() == DATA
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no rename that never replaces")
def test_a_file_that_appears_while_another_is_named_stays(tmp_path, monkeypatch, kind):
    """On a file system without links: nobody looks and then renames."""
    path = tmp_path / "a.h5"
    path.write_bytes(b"first")
    with monkeypatch.context() as patch:
        refuse(patch, "link", errno.ENOTSUP)
        patch.setattr(os.path, "lexists", lambda path: False)
        with pytest.raises(FileExistsError):
            files.write_new(path, DATA)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.h5"]


def test_bytes_that_come_back_other_than_they_were_are_noticed(tmp_path, monkeypatch, kind):
    read = os.read
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda handle, n: b"\0" + read(handle, n)[1:].replace(b"a", b"b"))
        with pytest.raises(files.NotWritten, match="other bytes"):
            files.write_new(tmp_path / "a.h5", DATA)
    assert os.listdir(tmp_path) == []


def test_short_writes_go_on(tmp_path, monkeypatch, kind):
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, bytes(data[:777])))
        files.write_new(tmp_path / "a.h5", DATA)
    assert (tmp_path / "a.h5").read_bytes() == DATA


def test_a_disk_that_takes_no_more_bytes_is_full(tmp_path, monkeypatch, kind):
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: 0)
        with pytest.raises(files.NotWritten, match="no space is left"):
            files.write_new(tmp_path / "a.h5", DATA)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["file", "broken link", "below a file", "NUL", "surrogate"])
def test_what_is_no_folder_is_said(tmp_path, what):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    folder = {
        "file": "file", "broken link": "link", "below a file": "file/below", "NUL": "a\0b",
        "surrogate": "a\udfffb",
    }[what]  # fmt: skip
    before = sorted(os.listdir(tmp_path))
    for write in (files.write_new, files.replace_file):
        with pytest.raises(files.NotWritten) as caught:
            write(tmp_path / folder / "a.h5", DATA)
        one_line(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_that_vanishes_is_said(tmp_path, monkeypatch, kind):
    folder = tmp_path / "runs"
    monkeypatch.setattr(files, "remove_stale", lambda folder: shutil.rmtree(folder))
    with pytest.raises(files.NotWritten, match="the folder is not there any more"):
        files.write_new(folder / "a.h5", DATA)


def test_a_picture_is_whole_or_absent_and_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    files.replace_file(path, b"one")
    files.replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    with monkeypatch.context() as patch:
        refuse(patch, "replace", errno.EACCES)
        with pytest.raises(files.NotWritten, match="no permission"):
            files.replace_file(path, b"three")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.png"]
    assert path.stat().st_mode & 0o200


# In processes of their own.

WRITE = "import sys; from pathlib import Path; from nanorepro.results import files; "
REPORT = (
    "try: files.write_new(Path(sys.argv[1]), bytes(200_000))\n"
    "except OSError as error: print(error); sys.exit(1)\n"
)


def python(code, *arguments, **settings):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, **settings
    )


NAMELESS = "import os; vars(os).pop('O_TMPFILE', None)\n"


@pytest.mark.parametrize("before", ["", NAMELESS], ids=["unnamed", "private name"])
def test_a_limit_on_the_size_of_files(tmp_path, before):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    done = python(before + limit + WRITE + "\n" + REPORT, tmp_path / "a.h5")
    assert done.returncode == 1, done.stderr
    assert "larger than is allowed" in done.stdout and done.stderr == ""
    assert os.listdir(tmp_path) == []


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a file system over a new folder; unmounted afterwards."""
    there = []

    def mount(*options):
        folder = tmp_path / f"mounted{len(there)}"
        folder.mkdir()
        done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        there.append(folder)
        return folder

    if os.name != "posix" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root mounts file systems")
    yield mount
    for folder in there:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("before", ["", NAMELESS], ids=["unnamed", "private name"])
def test_a_disk_that_is_full(mounted, before):
    folder = mounted("-t", "tmpfs", "-o", "size=100k", "tmpfs")
    done = python(before + WRITE + "\n" + REPORT, folder / "a.h5")
    assert done.returncode == 1, done.stderr
    assert "no space is left on the disk" in done.stdout and done.stderr == ""
    assert os.listdir(folder) == []


def test_a_file_system_that_is_read_only(mounted):
    folder = mounted("-t", "tmpfs", "-o", "ro", "tmpfs")
    with pytest.raises(files.NotWritten, match="read-only"):
        files.write_new(folder / "a.h5", DATA)


def test_a_folder_that_may_not_be_changed(tmp_path):
    if not shutil.which("chattr"):
        pytest.skip("no chattr here")
    done = subprocess.run(["chattr", "+i", tmp_path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"chattr: {done.stderr.strip()}")
    try:
        with pytest.raises(files.NotWritten, match="no permission"):
            files.write_new(tmp_path / "a.h5", DATA)
    finally:
        subprocess.run(["chattr", "-i", tmp_path], check=True)
    assert os.listdir(tmp_path) == []


SLOW = (
    "import os, time\n"
    "def fsync(handle): print('writing', flush=True); time.sleep(60)\n"
    "os.fsync = fsync\n"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_leaves_nothing_for_long(tmp_path, number, kind):
    """Nothing at all where files may be without a name; else until the next file is written."""
    before = NAMELESS if kind == "private name" else ""
    code = before + SLOW + WRITE + "\n" + REPORT
    command = [sys.executable, "-c", code, str(tmp_path / "a.h5")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"writing\n"
        living = os.listdir(tmp_path)
        files.remove_stale(tmp_path)
        assert os.listdir(tmp_path) == living, "what is being written was removed"
        child.send_signal(number)
        child.wait(30)
    assert len(os.listdir(tmp_path)) == (kind == "private name")
    files.write_new(tmp_path / "b.h5", DATA)
    assert os.listdir(tmp_path) == ["b.h5"]


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "é" * 125 + ".h5"])
def test_a_name_may_be_as_long_as_any(name, tmp_path, monkeypatch):
    files.replace_file(tmp_path / name, b"one")
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (tmp_path / "other").mkdir()
    files.write_new(tmp_path / "other" / name, b"two")
    assert (tmp_path / name).read_bytes() == b"one"
    assert (tmp_path / "other" / name).read_bytes() == b"two"


def test_a_folder_is_scanned_once_however_many_files_are_written(tmp_path, monkeypatch):
    scanned, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (scanned.append(path), scandir(path))[1])
    for k in range(5):
        files.write_new(tmp_path / f"{k}.h5", DATA)
        files.replace_file(tmp_path / f"{k}.png", DATA)
    assert scanned == [tmp_path]


def test_only_private_files_of_the_dead_are_removed(tmp_path):
    host, dead = files.machine(), 2**22 + 1  # above the largest process id
    stale = [f".a.h5.{host}-{dead}-01234567.tmp", ".a.h5.elsewhere-1-01234567.tmp"]
    kept = [
        f".a.h5.{host}-{os.getpid()}-01234567.tmp", ".b.h5.elsewhere-1-01234567.tmp", ".a.h5.tmp",
        "a.h5", f"a.h5.{host}-{dead}-01234567.tmp", f".a.h5.{host}-{dead}-0123.tmp",
    ]  # fmt: skip
    for name in stale + kept:
        (tmp_path / name).write_bytes(b"")
    old = time.time() - 2 * files.DAY
    for name in (stale[1], "a.h5"):
        os.utime(tmp_path / name, (old, old))
    files.remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
