"""The sources that compiled code is made of: on disk it is found again for these only."""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3]
_IMPORT = re.compile(r"^from (nanorepro[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


def imported(text: str) -> Iterator[Path]:
    """The files of this package that a source imports at its top."""
    for module, names in _IMPORT.findall(text):
        for name in ["", *re.findall(r"\w+", names)]:
            path = PACKAGE.parent.joinpath(*module.split("."), *([name] if name else []))
            yield from (p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file())


@cache
def source_files() -> tuple[Path, ...]:
    """The files that compiled code is made of: this backend's, and what they import."""
    found: set[Path] = set()
    left = [*(PACKAGE / "backends" / "numba").rglob("*.py")]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += imported(path.read_text(encoding="utf-8"))
    return tuple(sorted(found))


@cache
def source_modules() -> frozenset[str]:
    """The names of the modules that `source_files` are."""
    names = (path.relative_to(PACKAGE.parent).with_suffix("").parts for path in source_files())
    return frozenset(".".join(name) for name in names)


@cache
def sources() -> str:
    """A digest of `source_files`: compiled code on disk is that of these sources only."""
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()
