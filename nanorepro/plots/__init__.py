"""Pictures.  Matplotlib is imported here first, whatever the user's environment says of it.

A backend that the environment names is not asked for, and so need not exist.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _plain_environment() -> Iterator[None]:
    """The environment without what keeps Matplotlib from being imported, and without its log."""
    kept = {name: os.environ.pop(name) for name in ("MPLBACKEND",) if name in os.environ}
    added = []
    try:
        Path.home()
    except RuntimeError:  # no HOME, and no such user
        if not os.environ.get("MPLCONFIGDIR"):
            os.environ["MPLCONFIGDIR"] = tempfile.gettempdir()
            added.append("MPLCONFIGDIR")
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        for name in added:
            del os.environ[name]
        os.environ.update(kept)


with _plain_environment():
    import matplotlib.figure

with contextlib.suppress(ValueError):  # for the user's own pictures in the same process
    if "MPLBACKEND" in os.environ:
        matplotlib.rcParams["backend"] = os.environ["MPLBACKEND"]
