"""Models drawn: a dot for every input, a link for every weight."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanorepro.config import Config
from nanorepro.data.sampling import FEATURES
from nanorepro.plots.style import BLACK, BLUE, GREEN, RED, YELLOW, heading
from nanorepro.specification import layers

SHOWN = 7  # units of a layer that are drawn before the rest is left out


def architectures(models: Sequence[Config], title: str, note: str) -> Figure:
    """Drawings of models side by side, inputs at the bottom."""
    figure = Figure(figsize=(3.4 * len(models), 4.6), layout="constrained")
    for ax, config in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        architecture(ax, config)
    heading(figure, title, note)
    return figure


def architecture(ax: Axes, config: Config) -> None:
    """One model: a dot for every input, a link for every weight, a triangle for σ and A."""
    net = layers(config, FEATURES)
    units = [spots(FEATURES, 0.0)]
    for level, layer in enumerate(net, 1):
        below, above = units[-1], spots(layer.fan_out, float(level))
        units.append(above)
        part = layer.fan_out // layer.sets
        for j, x0, y0 in below:
            for i, x1, y1 in above:
                if layer.sets == 1 or j // (layer.fan_in // layer.sets) == i // part:
                    ax.plot([x0, x1], [y0, y1], color=BLUE, lw=0.35, alpha=0.6, zorder=1)
        last = level == len(net)
        large = min(1.0, 10.0 / len(above))
        for _, x, y in above:
            triangle = layer.active or last
            ax.plot(x, y, marker="^" if triangle else "o", ms=13 * large if triangle else 6,
                    color="white", mec=RED if last else GREEN if layer.active else YELLOW,
                    zorder=2)  # fmt: skip
            if triangle:
                ax.annotate("σ" if last else "A", (x, y), (0, -1.5 * large), fontsize=6 * large,
                            textcoords="offset points", ha="center", va="center")  # fmt: skip
        if len(above) < layer.fan_out:
            ax.text(0.0, level, "...", ha="center", va="center", backgroundcolor="white", zorder=3)
        n = layer.fan_out
        what = "prediction" if last else "embedding"
        if layer.active:
            what = f"{n} unit{'s' if n > 1 else ''}"
        names = ", ".join(f"${n[0]}^{n[1:]}$" for n in layer.names)
        ax.text(1.12, level, f"{what}\n{names}", fontsize=6.5, va="center")
    for _, x, y in units[0]:
        ax.plot(x, y, marker="o", ms=3.5, color=BLACK, zorder=2)
    ax.text(1.12, 0.0, f"{FEATURES} inputs", fontsize=6.5, va="center")
    act = "" if config.model == "linear" else f", A = {config.act}"
    widths = f" [{', '.join(map(str, config.widths))}]" if config.widths else ""
    ax.set_title(f"{config.model}{widths}{act}")
    ax.set(xlim=(-1.15, 1.75), ylim=(-0.25, max(len(net), 2) + 0.35))
    ax.axis("off")


def spots(n: int, level: float) -> list[tuple[int, float, float]]:
    """(unit, x, y) of the units of a layer that are drawn: all of 32, else the ends of a row."""
    if n <= FEATURES:
        step = min(0.42, 2.0 / max(n - 1, 1))
        return [(k, (k - (n - 1) / 2) * step, level) for k in range(n)]
    half = SHOWN // 2 + 1
    left = [(k, -1.0 + 0.2 * k, level) for k in range(half)]
    return left + [(n - 1 - k, 1.0 - 0.2 * k, level) for k in range(half)]
