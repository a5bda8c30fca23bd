"""Templates filled in: all text escaped, style and script inside, everything else forbidden.

The page's Content-Security-Policy lets run the one script whose digest it names, and lets load
nothing: what a configuration or a file's name smuggles in would not run even if it were not text.
"""

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

from nanorepro.errors import ConfigError
from nanorepro.version import __version__

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

TEMPLATES = "templates"
LINES = "\n\t"  # characters that are no letters and may stand in a page


def check() -> None:
    """Raise ConfigError if pages cannot be made here."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise ConfigError(
            "a page needs Jinja2, which is not installed; pip install 'nanorepro[report]'"
        ) from None


def render(template: str, **values: Any) -> bytes:
    """A page.

    Parameters
    ----------
    template : str
        Name of a file in `templates/`.
    **values
        What it names.  Text is escaped, all of it; only `markup` makes an exception.

    Returns
    -------
    bytes
        The same for the same values.

    Raises
    ------
    ConfigError
        Without Jinja2.
    """
    check()
    style, script = _text("page.css"), _text("page.js")
    page = _environment().get_template(template)
    made = page.render(
        style=markup(style),
        script=markup(script),
        script_digest=_digest(script),
        version=__version__,
        **values,
    )
    return printable(made).encode()


def markup(text: str) -> "Markup":
    """Text that is HTML of our own making, and so is not escaped."""
    from markupsafe import Markup

    return Markup(text)


def printable(text: str) -> str:
    """The text with what cannot stand in a page written as in Python: `\\x00`, `\\udcff`."""
    odd = [c for c in set(text) if not c.isprintable() and c not in LINES]
    return text.translate({ord(c): repr(c)[1:-1] for c in odd}) if odd else text


def _environment() -> "jinja2.Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """A script's digest as Content-Security-Policy has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
