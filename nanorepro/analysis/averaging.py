"""Averages that bring the models of a pair closer: of weights, and of an ensemble's predictions.

Both are functions of the run alone, to the bit: sums of float64 in a fixed order.
"""

from collections.abc import Sequence

import numpy as np

from nanorepro.analysis.lockstep import Lockstep, PairExamples, Report
from nanorepro.backends.protocols import Backend
from nanorepro.config import Config
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.model.layers import Parameters
from nanorepro.results.metrics import Prediction
from nanorepro.specification import ModelSpec, spec_of
from nanorepro.training.parameters import in_precision, initial_parameters

STEPS = 64  # over which weights are averaged


def averaged_steps(steps: int, count: int = STEPS) -> tuple[int, ...]:
    """The steps after which weights are taken: at equal distances in the second half, to the end.

    Examples
    --------
    >>> averaged_steps(32, 4), averaged_steps(1)
    ((20, 24, 28, 32), (1,))
    """
    half = steps - steps // 2
    n = min(count, half)
    return tuple(steps - half + (k + 1) * half // n for k in range(n))


def added(total: Parameters, record: Parameters) -> Parameters:
    """A sum of records, float64, with one more; {} is the sum of none."""
    return {n: total.get(n, 0.0) + value.astype(np.float64) for n, value in record.items()}


def tail_averages(
    config: Config,
    pair: int,
    world: World | Given,
    backend: Backend,
    report: Report = lambda examples: None,
) -> tuple[list[Parameters], list[Parameters]]:
    """The mean of each model's weights over the second half of its training, and the last ones.

    Stochastic weight averaging (Izmailov et al., 2018, arXiv:1803.05407) at a constant rate: the
    training is the run's own, repeated, and goes on from the weights, not from their mean.

    Parameters
    ----------
    config : Config
        The run, from initial values.
    pair : int
        Which pair of it.
    world : World or Given
        The run's.
    backend : module
        What trains; changes no bit.
    report : callable, optional
        Called with the examples that were trained on.

    Returns
    -------
    two lists of two records
        The means over `averaged_steps`, rounded to the model's precision; the trained parameters.
    """
    specs = [spec_of(config, pair, m) for m in (0, 1)]
    start = [initial_parameters(config, pair, m, config.features) for m in (0, 1)]
    examples = PairExamples(config, pair, world, backend)
    both = Lockstep(backend.Model, specs, start, examples, report)
    totals: list[Parameters] = [{}, {}]
    steps = averaged_steps(config.steps)
    for step in steps:
        both.go_on(step)
        totals = [added(t, now) for t, now in zip(totals, both.parameters(), strict=True)]
    means = [{name: t / len(steps) for name, t in total.items()} for total in totals]
    return [rounded(spec, m) for spec, m in zip(specs, means, strict=True)], [*both.parameters()]


def rounded(spec: ModelSpec, record: Parameters) -> Parameters:
    """A record in the model's precision; of a model that diverged NaN."""
    if all(np.isfinite(value).all() for value in record.values()):
        return in_precision(spec, record)
    empty = in_precision(spec, {name: np.zeros(v.shape) for name, v in record.items()})
    return {name: np.full_like(value, np.nan) for name, value in empty.items()}


def ensemble_logits(members: Sequence[Prediction]) -> np.ndarray:
    """Logits (n,) of the mean probability of models that predict together, float64.

    log(p̄/(1 - p̄)) = log Σ σ(z_j) - log Σ σ(-z_j).  The PD of two ensembles is at most the mean PD
    of their members, and the loss of one at most the mean of theirs.
    """
    ones, zeros = (np.zeros(members[0].z.shape) for _ in range(2))
    for member in members:
        ones = ones + member.p
        zeros = zeros + Prediction(-member.z, member.exp, member.log, member.fsum).p
    log = members[0].log
    found: np.ndarray = log(ones) - log(zeros)
    return found
