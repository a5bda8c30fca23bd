"""A figure as SVG that is part of an HTML page: small, light and dark, read aloud, always the same.

The page's style sheet says what the colours are: black becomes `currentColor`, the other colours
of `style` become `var(--blue)` and so on, white the page's own background.
"""

import io
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanorepro.plots import style

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NAMED = ("BLUE", "CYAN", "GREEN", "YELLOW", "RED", "PURPLE", "GREY")
COLOURS = {
    style.BLACK: "currentColor",
    "#ffffff": "var(--paper)",
    **{getattr(style, name).lower(): f"var(--{name.lower()})" for name in NAMED},
}
TAGS = {
    SVG + tag for tag in ("g", "path", "use", "defs", "clipPath", "rect", "text", "tspan", "image")
}
ATTRIBUTES = {
    "id", "class", "style", "d", "x", "y", "width", "height", "transform", "href", "clip-path",
    "viewBox",
}  # fmt: skip
LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}(?![\de])")
COLOUR = re.compile(r"#[0-9a-f]{6}")
FONT = re.compile(r"font-family: *[^;]*;?|font-size: *([\d.]+)px;?")
REFERENCE = re.compile(r"url\(#([^)]+)\)")
GRID = 2.0  # points are drawn at multiples of 1/GRID of a point, those at one place once
SHAPES = {  # a mark around the place to which the pen was moved, and whether it is filled
    "dot": "h0",
    "cross": "m-2-2 4 4m0-4-4 4",
    "triangle": "m-2.5-2h5l-2.5 4.5z",
}


@dataclass(frozen=True)
class Points:
    """Many points that are one path.

    Parameters
    ----------
    x, y : ndarray (n,)
        Places in points of the figure from its upper left corner.
    colour : str
        One of `style`'s.
    shape : str
        One of SHAPES.
    kind : str
        Class of the path, for the style sheet.
    """

    x: np.ndarray
    y: np.ndarray
    colour: str
    shape: str = "dot"
    kind: str = "points"


@dataclass(frozen=True)
class Spot:
    """A place of a figure that says something when it is pointed at, and may lead somewhere."""

    x: float
    y: float
    text: str
    link: str = ""


@dataclass
class Drawn:
    """What is drawn on a figure by the page itself."""

    points: list[Points] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)


def settle(figure: Figure) -> None:
    """Lay a figure out once and for all, so that `places` are final; its dpi must be 72."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def places(ax: Axes, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Data as points of the figure from its upper left corner."""
    found = ax.transData.transform(np.column_stack([x, y]))
    return found[:, 0], ax.figure.bbox.height - found[:, 1]


def inline(
    figure: Figure,
    name: str,
    title: str,
    description: str,
    drawn: Drawn | None = None,
    text: bool = True,
) -> str:
    """The figure as an `svg` element.

    Parameters
    ----------
    figure : Figure
        What is drawn; the same figure gives the same text.
    name : str
        Letters, digits and hyphens: a prefix of all ids, of which the page has each once.
    title, description : str
        What is read aloud in place of the picture.
    drawn : Drawn, optional
        Points below the figure's own marks, and spots above them.
    text : bool
        Whether text stays text, in the page's font; else it is drawn as Matplotlib measured it.
    """
    return themed(svg(figure, text), name, title, description, drawn)


def svg(figure: Figure, text: bool = False) -> bytes:
    """The figure as an SVG file without date and maker."""
    buffer = io.BytesIO()
    more = {"svg.fonttype": "none", "text.parse_math": False} if text else None
    with style.settings(more):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", backend="svg", metadata=nothing)
    return buffer.getvalue()


def themed(data: bytes, name: str, title: str, description: str, drawn: Drawn | None = None) -> str:
    """An SVG file of Matplotlib's as an `svg` element of a page; parameters as for `inline`."""
    root = ElementTree.fromstring(data)
    for parent in root.iter():
        for child in list(parent):
            if child.tag not in TAGS:
                parent.remove(child)
    used = {
        reference
        for element in root.iter()
        for value in element.attrib.values()
        for reference in [*REFERENCE.findall(value), value.removeprefix("#")]
        if value.startswith("#") or "url(#" in value
    }
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.text, element.tail = _trimmed(element, element.text), None
        attributes = {key.removeprefix(XLINK): value for key, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        for key, value in attributes.items():
            if key in ATTRIBUTES and _local(key, value):
                element.set(key, _value(key, value, name))
    box = root.get("viewBox", "")
    root.attrib.clear()
    ids = f"{name}-title {name}-description"
    root.attrib |= {"viewBox": box, "role": "img", "aria-labelledby": ids}
    added = drawn or Drawn()
    root[:0] = [
        _element("title", title, id=f"{name}-title"),
        _element("desc", description, id=f"{name}-description"),
        *(path for points in added.points if (path := _path(points)) is not None),
    ]
    root.extend(_spot(spot) for spot in added.spots)
    return ElementTree.tostring(root, encoding="unicode")


def _trimmed(element: ElementTree.Element, text: str | None) -> str | None:
    """The text of an element, without the line feeds that only lay out the file."""
    return text if element.tag in ("text", "tspan") and (text or "").strip() else None


def _local(key: str, value: str) -> bool:
    """Whether an attribute loads nothing and leads nowhere."""
    if key == "href":
        return value.startswith(("#", "data:image/png;base64,"))
    return "url(" not in REFERENCE.sub("", value)


def _value(key: str, value: str, name: str) -> str:
    """An attribute's value: ids with their prefix, colours by name, numbers no longer than seen."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value.removeprefix('#')}"
    value = REFERENCE.sub(lambda m: f"url(#{name}-{m[1]})", value)
    if key == "style":
        value = COLOUR.sub(lambda m: COLOURS.get(m[0], m[0]), value)
        return FONT.sub(lambda m: f"font-size: {m[1]}px;" if m[1] else "", value).strip()
    if key in ("d", "x", "y", "points"):
        value = LONG_NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
        return " ".join(value.split())
    return value


def _element(tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    made = ElementTree.Element(tag, attributes)
    made.text = text
    return made


def _path(points: Points) -> ElementTree.Element | None:
    """The points as one path, those at one place once."""
    if not len(points.x):
        return None
    at = np.unique(np.rint(np.column_stack([points.x, points.y]) * GRID), axis=0) / GRID
    shape = SHAPES[points.shape]
    d = "".join(f"M{x:g} {y:g}{shape}" for x, y in at.tolist())
    colour = COLOURS[points.colour.lower()]
    kind = f"{points.kind} {points.shape}"
    return _element("path", **{"class": kind, "style": f"stroke: {colour}", "d": d})


def _spot(spot: Spot) -> ElementTree.Element:
    circle = _element("circle", cx=f"{spot.x:.1f}", cy=f"{spot.y:.1f}", r="5")
    circle.set("class", "spot")
    circle.append(_element("title", spot.text))
    if not spot.link:
        return circle
    link = _element("a", href=spot.link, tabindex="-1")  # the table leads there, too
    link.append(circle)
    return link
