"""Files that are whole or absent, on whatever file system they are written.

The bytes go into a file without a name where the system has such (O_TMPFILE), else under a private
name in the same folder; they are read back and compared, flushed to the disk, and only then given
the name.  Nothing here needs locks, links, modes or `fsync`: where a file system lacks one of them,
the rest is done.
"""

import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

LACKING = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTTY", "EPERM", "EMLINK", "EXDEV")
    if hasattr(errno, name)
}
"""What `fsync`, `link`, `chmod` and O_TMPFILE answer on a file system that lacks them."""

REASONS = {
    "ENOSPC": "no space is left on the disk",
    "EDQUOT": "the disk quota is used up",
    "EFBIG": "the file would be larger than is allowed (ulimit -f)",
    "EROFS": "the file system is read-only",
    "EACCES": "no permission to write there",
    "EPERM": "no permission to write there",
    "ENOENT": "the folder is not there any more, or is a broken link",
    "ENOTDIR": "a file is where a folder should be",
    "EEXIST": "a file or a broken link is where the folder should be",
    "ENOLCK": "the file system has no locks",
    "ESTALE": "the network file system has lost it",
}

NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL}
"""What reading says where there is no file; all else is the system's refusal for now."""

DAMAGED = "damaged"
DAY = 86400.0
PRIVATE = re.compile(r"\..+\.(?P<host>[^.]*)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")


class NotWritten(OSError):
    """A file could not be written; the message is one line that says which and why.

    Nothing of it is left behind, and what was there before is as it was.
    """

    def __init__(self, path: Path, error: OSError):
        super().__init__(error.errno, error.strerror)
        self.path = path

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno or 0, "")
        reason = REASONS.get(name, self.strerror or "it failed")
        line = f"{str(self.path)!r} cannot be written: {reason}"
        return f"{line} ({self.strerror})" if self.strerror and name in REASONS else line


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, read-only.

    Raises FileExistsError if there is something of that name, NotWritten if the system refuses.
    """
    with _failing(path):
        _make_folder(path.parent)
        _tidy(path.parent.absolute())
        if not _written_unnamed(path, data):
            with _private(path, data, read_only=True) as private:
                _rename_new(private, path)
        _flush_folder(path.parent)


def replace_file(path: Path, data: "bytes | memoryview") -> None:
    """Write a file that can be made again, such as a picture, in place of what is there.

    Raises NotWritten if the system refuses.
    """
    with _failing(path):
        _make_folder(path.parent)
        _tidy(path.parent.absolute())
        with _private(path, data) as private:
            os.replace(private, path)
        _flush_folder(path.parent)


def keep_aside(write: Callable[[Path], Path]) -> Path | None:
    """Write what its own folder refuses into a new one in the system's temporary folder.

    `write` takes that folder and returns the file; None where it cannot be written there, either.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="nanorepro-"))
        return write(folder)
    except Exception:
        with contextlib.suppress(OSError):
            if folder is not None:
                folder.rmdir()
        return None


def set_aside(path: Path) -> Path:
    """Move a damaged file into `damaged/` beside it, where it is kept; raises OSError."""
    target = path.parent / DAMAGED / path.name
    target.parent.mkdir(exist_ok=True)
    number = 1
    while target.exists():
        target = target.with_name(f"{path.stem}.{number}{path.suffix}")
        number += 1
    os.rename(path, target)
    return target


def checkpoint_of(id: str, folder: str | Path) -> Path:
    """Where a run in the middle of its training is kept (`training.checkpoints`)."""
    return Path(folder) / f"{id}.checkpoint"


def check_regular(path: Path) -> None:
    """Raise OSError for what is no file that ends: a pipe or a device might never."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a file")


def read_file(path: Path) -> bytes:
    """All bytes of a regular file; raises OSError."""
    check_regular(path)
    return path.read_bytes()


def is_refused(error: Exception) -> bool:
    """Whether the system refused to read a file that may be sound: no permission, too many open."""
    return isinstance(error, OSError) and error.errno not in {None, *NO_FILE}


def remove_stale(folder: Path) -> None:
    """Remove private files that processes left which were killed while they wrote."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = PRIVATE.fullmatch(entry.name)
            with contextlib.suppress(OSError):
                if found and _is_stale(found, entry.stat(follow_symlinks=False).st_mtime):
                    os.unlink(entry.path)


@lru_cache(maxsize=256)
def _tidy(folder: Path) -> None:
    """`remove_stale` once a process: a scan with every file would be quadratic in their number."""
    remove_stale(folder)


def _is_stale(found: re.Match[str], modified: float) -> bool:
    """Whether nobody writes a private file any more: its process has ended, or it is a day old."""
    if time.time() - modified > DAY:
        return True
    if found["host"] != machine() or os.name != "posix":
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@cache
def machine() -> str:
    """A name, as a part of a file's, for what numbers processes as this process is numbered.

    Another machine, or the same one after it was started anew, or another container, which may
    have the same host name, gives the same numbers to other processes.
    """
    parts = [socket.gethostname()[:24]]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text()[:8])
    with contextlib.suppress(OSError):
        parts.append(re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")))
    return re.sub(r"[^A-Za-z0-9_]", "_", "_".join(parts))


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    """What the system refuses is told of the file that was to be written."""
    try:
        yield
    except (FileExistsError, NotWritten):
        raise
    except OSError as error:
        raise NotWritten(path, error) from error
    except ValueError as error:  # a name with a NUL, or that cannot be encoded
        raise NotWritten(path, OSError(errno.EINVAL, str(error))) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotWritten(folder, error) from error


def _written_unnamed(path: Path, data: bytes) -> bool:
    """Write a file that has no name until it is whole; False where the system has no such files."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    with contextlib.ExitStack() as stack:
        try:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(_close, folder)
            handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            stack.callback(_close, handle)
        except OSError:
            return False  # what else may be wrong, a file with a name meets again
        _fill(handle, data, read_only=True)
        try:
            source = f"/proc/self/fd/{handle}"
            os.link(source, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in LACKING | {errno.ENOENT}:
                return False
            raise
    return True


@contextlib.contextmanager
def _private(path: Path, data: "bytes | memoryview", read_only: bool = False) -> Iterator[Path]:
    """The private name of a file with these bytes, checked and flushed; it is gone afterwards."""
    short = path.name[:32]  # with what follows no longer than a name may be
    private = path.with_name(f".{short}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle: int | None = None
    try:
        handle = os.open(private, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        _fill(handle, data, read_only)
        closing, handle = handle, None
        os.close(closing)  # a network file system may tell only now that the disk is full
        yield private
    finally:
        if handle is not None:
            _close(handle)
        with contextlib.suppress(OSError):
            os.unlink(private)


def _close(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)


def _fill(handle: int, data: "bytes | memoryview", read_only: bool) -> None:
    """Write all bytes from the start on, read them back, flush them to the disk."""
    rest = memoryview(data)
    while rest:
        written = os.write(handle, rest[: 1 << 26])
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]
    os.lseek(handle, 0, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        part = os.read(handle, 1 << 26)
        if not part or part != rest[: len(part)]:
            raise OSError(errno.EIO, "the file system gave back other bytes than were written")
        rest = rest[len(part) :]
    if read_only and hasattr(os, "fchmod"):
        with _if_there_is():
            os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) & 0o444)
    with _if_there_is():
        os.fsync(handle)


def _rename_new(private: Path, path: Path) -> None:
    """Give a file its name; raises FileExistsError if there is something of that name."""
    try:
        os.link(private, path)  # a rename would replace a file that appeared meanwhile
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in LACKING:
            raise
        if _renamed_without_replacing(private, path):
            return
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(private, path)


def _renamed_without_replacing(private: Path, path: Path) -> bool:
    """Rename a file unless the name is taken, in one step; False where the system cannot.

    Linux has it for FAT, CIFS and others that have no links.  Raises FileExistsError.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # a C library of before 2018
        return False
    here, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
    if rename(here, os.fsencode(private), here, os.fsencode(path), no_replace) == 0:
        return True
    number = ctypes.get_errno()
    if number in LACKING:
        return False
    raise OSError(number, os.strerror(number), str(path))


@contextlib.contextmanager
def _if_there_is() -> Iterator[None]:
    """Do without what this file system lacks."""
    try:
        yield
    except OSError as error:
        if error.errno not in LACKING:
            raise


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where a folder can be flushed."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
