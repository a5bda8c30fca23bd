"""nanorepro: a simulator of irreproducibility in the training of neural networks.

Every source of irreproducibility is an explicit, seeded input: a run is a pure function of its
configuration, to the bit, on every machine.  Pairs of models are trained on the same examples and
differ only in the streams that `Config.differ` names; what is measured is how far apart they end.

    >>> from nanorepro import Config, simulate
    >>> config = Config(model="double", act="relu", log2_examples=10, log2_eval=10, pairs=2)
    >>> result = simulate(config, backend="reference")
    >>> 0.0 < result.relative_pd < result.excess_loss
    True

Config              what a run is; its fields are the command line's options
simulate            train and measure all pairs of a run: a `Result`
Result              parameters, measures of every pair, fingerprint; `to_xarray()`
save, load          one immutable, checked file a run
compare             where and how far two runs, checkpoints or files of tensors differ
open_results        all runs of a folder as one xarray Dataset
initial_parameters  a model's record before training, for any number of features
diverge             where, when and how fast the two models of each pair part: a `Divergence`
attribute           which source makes the models of a pair differ: an `Attribution`
fit, predict        train and evaluate models on your own arrays
ConfigError         what is wrong with an argument, in one line

On the command line: `python -m nanorepro`.
"""

from typing import TYPE_CHECKING, Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.version import __version__ as __version__

if TYPE_CHECKING:
    from nanorepro.analysis.comparison import compare
    from nanorepro.results.result import Result
    from nanorepro.results.store import load, save
    from nanorepro.sweeps.attributing import attribute
    from nanorepro.sweeps.diverging import diverge
    from nanorepro.sweeps.table import open_results
    from nanorepro.training.fitting import fit, predict
    from nanorepro.training.parameters import initial_parameters
    from nanorepro.training.simulation import simulate

__all__ = [
    "Config",
    "ConfigError",
    "Result",
    "attribute",
    "compare",
    "diverge",
    "fit",
    "initial_parameters",
    "load",
    "open_results",
    "predict",
    "save",
    "simulate",
]

# imported on first use, so that `--help` answers without NumPy and Numba
_WHERE = {
    "Result": "results.result",
    "attribute": "sweeps.attributing",
    "compare": "analysis.comparison",
    "diverge": "sweeps.diverging",
    "fit": "training.fitting",
    "initial_parameters": "training.parameters",
    "load": "results.store",
    "open_results": "sweeps.table",
    "predict": "training.fitting",
    "save": "results.store",
    "simulate": "training.simulation",
}


if not TYPE_CHECKING:  # a checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
