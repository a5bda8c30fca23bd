"""Files of tensors by what they hold, not by their names; shards that are one; what is refused."""

import re
from collections.abc import Sequence
from pathlib import Path

from nanorepro.data.tensors import npz, safetensors
from nanorepro.data.tensors.record import TensorFile, refused
from nanorepro.errors import ConfigError, shown

HDF5 = b"\x89HDF\r\n\x1a\n"  # how its files begin
SUFFIXES = (".safetensors", ".npz", ".npy", ".h5", ".hdf5")
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib")
RIGHT = "a file .safetensors, .npz, .npy or .h5"


def open_tensors(paths: Sequence[Path], right: str = RIGHT) -> TensorFile:
    """The tensors of a file, or of shards that are one checkpoint; raises ConfigError.

    Only the file's description is read now, its numbers when they are asked for.  `right` says in
    messages what files there may be.
    """
    files = [_open(path, right) for path in paths]
    if len(files) == 1:
        return files[0]
    joined = TensorFile({}, {}, {}, tuple(note for file in files for note in file.notes))
    for path, file in zip(paths, files, strict=True):
        for name in file.tensors:
            if name in joined.tensors:
                raise refused(path, f"{shown(name)} is in another shard, too")
        joined.tensors.update(file.tensors)
        joined.metadata.update(file.metadata)
        joined.left_out.update(file.left_out)
    return joined


def _open(path: Path, right: str) -> TensorFile:
    try:
        if not path.is_file():
            raise refused(path, "no such file" if not path.exists() else "not a file", right)
        with open(path, "rb") as file:
            start = file.read(9)
        if start.startswith(npz.ZIP):
            return npz.open_npz(path)
        if start.startswith(npz.NPY):
            return npz.open_npy(path)
        if start.startswith(HDF5) or _has_user_block(path):
            from nanorepro.data.tensors import hdf5

            return hdf5.open_file(path)
        if path.suffix.lower() == ".safetensors" or safetensors.looks_like(start):
            return safetensors.open_file(path)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refused(path, reason, right) from None
    if start[:1] == b"\x80" or path.suffix.lower() in PICKLES:
        raise refused(path, "a pickle, which is never read", right)
    raise refused(path, "of no known format", right)


def _has_user_block(path: Path) -> bool:
    """Whether an HDF5 file begins after a block of the user's: at byte 512, 1024, 2048, ..."""
    with open(path, "rb") as file:
        for power in range(9, 21):
            file.seek(1 << power)
            if file.read(8) == HDF5:
                return True
    return False


SHARD = re.compile(r"(?P<stem>.*?)[-_.](?P<number>\d+)-of-(?P<count>\d+)$")


def shards(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the name of their checkpoint: `model-00001-of-00002` and its siblings are one.

    Raises ConfigError if shards are missing.
    """
    found: dict[str, list[Path]] = {}
    counts: dict[str, int] = {}
    for path in paths:
        match = SHARD.fullmatch(path.stem)
        name = match["stem"] if match else path.stem
        found.setdefault(name, []).append(path)
        if match:
            counts[name] = int(match["count"])
    for name, count in counts.items():
        if len(found[name]) != count:
            problem = f"{len(found[name])} of the {count} shards of {shown(name)} are there"
            raise refused(found[name][0].parent, problem, "all of them")
    return found
