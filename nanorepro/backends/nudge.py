"""The nudge: a few weights moved by a few units in the last place (Summers & Dinneen, 2021).

It is the least perturbation there is, of the second model of each pair that differs in `nudge`.
"""

from itertools import count

import numpy as np

from nanorepro.errors import wrong
from nanorepro.model.layers import Parameters, shapes
from nanorepro.numerics import ulp
from nanorepro.numerics.formats import significand_bits
from nanorepro.numerics.streams import bounded, stream_key, words
from nanorepro.specification import ModelSpec


def nudge_step(spec: ModelSpec) -> int | None:
    """The step before which a model is nudged; None if it is not."""
    return spec.config.nudge_at if spec.model == 1 and "nudge" in spec.config.roles else None


def nudged(spec: ModelSpec, parameters: Parameters) -> Parameters:
    """A record in the model's precision, with the weights that the stream `nudge` names moved.

    Raises ConfigError where the model has fewer weights than are to be nudged.
    """
    found = {name: value.copy() for name, value in parameters.items()}
    unit = 1 << max(0, 24 - significand_bits(spec.dials.precision))
    for name, at in nudged_weights(spec):
        weights = found[name].reshape(-1)
        weights[at] = moved(weights[at], spec.config.nudge_ulps * unit)
    return found


def nudged_weights(spec: ModelSpec) -> list[tuple[str, int]]:
    """The weights that are nudged, each as its array and its place in it, in the order drawn.

    The k-th draw is B(words 0, 1 of counter k; weights), over the arrays one after another without
    the biases; what was drawn before is drawn again.
    """
    sizes = {n: int(np.prod(s)) for n, s in shapes(spec.net).items() if not n.startswith("b")}
    total, wanted = sum(sizes.values()), spec.config.nudge_weights
    if wanted > total:
        raise wrong("nudge_weights", wanted, f"at most {total}, all weights of the model")
    number = spec.config.first_stream + spec.pair
    key, places = stream_key(spec.config.seed, "nudge", number), dict[int, None]()
    for k in count(step=wanted):
        high, low = words(key, np.arange(k, k + wanted))[:2]
        drawn: np.ndarray = bounded(high, low, np.uint64(total))
        places |= dict.fromkeys(drawn.tolist())
        if len(places) >= wanted:
            break
    return [_weight(sizes, at) for at in list(places)[:wanted]]


def _weight(sizes: dict[str, int], at: int) -> tuple[str, int]:
    """The array and the place in it of weight number `at` of all."""
    for name, size in sizes.items():
        if at < size:
            return name, at
        at -= size
    raise IndexError(at)


def moved(value: np.floating, units: int) -> np.floating:
    """The float that is so many steps of its format further towards +infinity, or infinity."""
    whole = ulp.SIGNED[value.itemsize]
    bits, lowest = value.view(whole), int(np.iinfo(whole).min)
    infinity = int(value.dtype.type(np.inf).view(whole))
    to = min(int(ulp.places(np.array([bits]))[0]) + units, infinity)
    further = to if to > 0 or bits >= 0 else lowest - to
    return value.dtype.type(np.array(further, whole).view(value.dtype))
