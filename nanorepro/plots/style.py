"""The look of all pictures, of which the user's Matplotlib settings change nothing."""

import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Paul Tol's colour-safe schemes: bright, and YlOrBr for what is ordered (personal.sron.nl/~pault)
BLUE, CYAN, GREEN, YELLOW, RED, PURPLE, GREY = (
    "#4477AA", "#66CCEE", "#228833", "#CCBB44", "#EE6677", "#AA3377", "#BBBBBB",
)  # fmt: skip
BLACK = "#000000"
YLORBR = ("#FFFFE5", "#FFF7BC", "#FEE391", "#FEC44F", "#FB9A29",
          "#EC7014", "#CC4C02", "#993404", "#662506")  # fmt: skip

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 7.0,
    "savefig.dpi": 200.0,
    "svg.hashsalt": "nanorepro",
}


@contextlib.contextmanager
def settings(more: Any = None) -> Iterator[None]:
    """Matplotlib's defaults, our style on them, and `more` on that, for a figure that is made."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a glyph that the font has not
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | (more or {}))
        yield


def file_of(figure: Figure, kind: str = "png", **metadata: str | None) -> bytes:
    """The figure as the bytes of a file; `kind` is png, pdf or svg."""
    dated = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}[kind]
    buffer = io.BytesIO()
    with settings():
        figure.savefig(
            buffer,
            format=kind,
            backend={"png": "agg"}.get(kind, kind),
            metadata={dated: None} | metadata,
        )
    return buffer.getvalue()


def heading(figure: Figure, title: str, note: str) -> None:
    """Title and note, wrapped to the width of the figure."""
    text = "\n".join([title, *textwrap.wrap(note, int(13.5 * figure.get_figwidth()))])
    figure.suptitle(text, fontsize=8.0, x=0.01, ha="left")
