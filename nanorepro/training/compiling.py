"""That something is compiled, said when it is and only then."""

import contextlib
from collections.abc import Iterator
from typing import Any

from nanorepro.backends.cuda import nvrtc
from nanorepro.training.progress import Progress


@contextlib.contextmanager
def says_when_compiling(progress: Progress | None) -> Iterator[None]:
    """Let a progress say, until its first report, that something is compiled in this process.

    By Numba or, for a GPU, by NVRTC.
    """
    if progress is None:
        yield
        return
    from numba.core import event

    shown: Progress = progress

    class Compiling(event.Listener):
        """Hears of what is compiled, and not of what the cache on the disk holds."""

        def on_start(self, event: Any) -> None:
            shown.waiting = "compiling (only the first time) ..."

        def on_end(self, event: Any) -> None:
            pass

    with contextlib.ExitStack() as stack:
        for what in ("numba:compile", nvrtc.EVENT):
            stack.enter_context(event.install_listener(what, Compiling()))
        yield
