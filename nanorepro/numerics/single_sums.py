"""The sums of a step one by one, and the text that gives some of them an accumulator of their own.

A sum has a layer, from 0 at the inputs, and a kind: `forward` and `backward` are over units, and
`batch`, which the gradients by the layer's weights and biases are, over the mini-batch.
"""

from collections.abc import Mapping
from functools import lru_cache

from nanorepro.errors import wrong
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.parsing import whole_number

KINDS = ("forward", "backward", "batch")
FIELD = "accumulator_at"
RIGHT = (
    "LAYER:SUM=ACCUMULATOR, several joined by +, as in 1:batch=exact+2:forward=kahan; SUM is "
    + " or ".join(KINDS)
    + ", ACCUMULATOR "
    + " or ".join(ACCUMULATORS)
)
Site = tuple[int, str]


@lru_cache(64)
def accumulators_at(text: str) -> Mapping[Site, str]:
    """The accumulator of each sum (layer, kind) that the text names; raises ConfigError.

    Examples
    --------
    >>> accumulators_at("1:batch=exact+2:forward=kahan")
    {(1, 'batch'): 'exact', (2, 'forward'): 'kahan'}
    """
    found: dict[Site, str] = {}
    for part in text.split("+") if text else ():
        site, _, name = part.partition("=")
        layer, _, kind = site.partition(":")
        try:
            number = whole_number(layer)
        except ValueError:
            raise wrong(FIELD, text, RIGHT) from None
        if number < 0 or kind not in KINDS or name not in ACCUMULATORS:
            raise wrong(FIELD, text, RIGHT)
        if (number, kind) in found:
            raise wrong(FIELD, text, "each sum once")
        found[number, kind] = name
    return found


def sites(layers: int) -> list[Site]:
    """The sums of a network of so many layers; below the first layer nothing is propagated to.

    Examples
    --------
    >>> sites(2)
    [(0, 'forward'), (0, 'batch'), (1, 'forward'), (1, 'backward'), (1, 'batch')]
    """
    return [(k, kind) for k in range(layers) for kind in KINDS if k or kind != "backward"]


def text_of(accumulators: Mapping[Site, str]) -> str:
    """The text that names these, by layer and kind."""
    ordered = sorted(accumulators, key=lambda site: (site[0], KINDS.index(site[1])))
    return "+".join(f"{layer}:{kind}={accumulators[layer, kind]}" for layer, kind in ordered)
