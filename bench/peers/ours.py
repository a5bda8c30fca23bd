"""nanorepro: the kernels on examples in memory, of one model and of an ensemble; whole runs."""

from dataclasses import replace

from bench.cases import MODELS, Case, Engine, Job
from nanorepro import simulate
from nanorepro.backends.numba.ensemble import make_ensemble
from nanorepro.specification import ModelSpec
from nanorepro.training.simulation import load_backend

PAIRS = 16  # of a whole run


def kernel(case: Case) -> Job:
    """One model on packed examples in memory."""
    x, y = case.packed
    x, backend = x[:, None], load_backend("numba")

    def start():
        return backend.Model(ModelSpec(case.config, 32, 0, 0), case.start(0))

    def train(model):
        model.train(x, y)
        return model

    return Job(start, train, lambda model: [model.parameters()], case.n)


def ensemble(case: Case) -> Job | None:
    """32 models on the same packed examples; None where they would be trained one by one."""
    spec, (x, y) = ModelSpec(case.config, 32, 0, 0), case.packed
    x, records = x[:, None], [case.start(k) for k in range(MODELS)]
    if make_ensemble(spec, records) is None:
        return None

    def start():
        first = make_ensemble(spec, records)
        assert first
        more = range(first.count, MODELS, first.count)
        return [first, *(make_ensemble(spec, records[k:]) for k in more)]

    def train(ensembles):
        for some in ensembles:
            some.train(x, y)
        return ensembles

    def read(ensembles):
        return [ensembles[0].parameters()[0], ensembles[-1].parameters()[-1]]

    return Job(start, train, read, MODELS * case.n)


def run(case: Case) -> Job:
    """A whole run of 16 pairs: synthesis, shuffling, training, evaluation, measures."""
    log2 = case.n.bit_length() - 1
    config = replace(case.config, log2_examples=log2, pairs=PAIRS)

    def train(state):
        return simulate(config, threads=1)

    def read(result):
        return [result.parameters[0][0]]  # the other pairs have examples of their own

    return Job(lambda: None, train, read, 2 * PAIRS * case.n)


ENGINES = {
    "nanorepro": Engine(kernel),
    "nanorepro, 32 models": Engine(ensemble, MODELS),
    "nanorepro run": Engine(run),
}
