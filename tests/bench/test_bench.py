"""The benchmarks count the work of every kernel; our programs are what we say."""

import pytest
from support.records import assert_same_record

from bench import micro
from bench.cases import CONFIGS, MODELS, Case
from bench.peers import ours
from nanorepro import fit
from nanorepro.backends.numba.context import make_context
from nanorepro.backends.numba.kernel import Counts
from nanorepro.backends.numba.kernels.step import make_step
from nanorepro.data.packing import unpack
from nanorepro.dials import dials
from nanorepro.specification import compile_key


@pytest.mark.parametrize("case", CONFIGS)
def test_the_work_of_every_kernel_is_counted(case):
    config = CONFIGS[case]
    ctx = make_context(compile_key(config), dials(config, 0), 32)
    step = make_step(ctx)
    counts = Counts(100.0, 20.0, 19.0, distinct=4e3, terms=9e3, inputs=900.0, units=400.0)
    for pick in step.picks:
        work = pick.kernel.work(ctx, step.layout, pick.k, counts)
        assert max(work.operations, work.divisions, work.bytes) > 0, pick.kernel.name
        assert micro.size_of(ctx, pick)


def test_an_ensemble_is_as_many_models_on_the_same_examples():
    case = Case(CONFIGS["linear"], 128)
    job = ours.ensemble(case)
    assert job.examples == MODELS * 128
    first, last = job.read(job.train(job.start()))
    x, y = case.packed
    for number, found in ((0, first), (MODELS - 1, last)):
        alone = fit(case.config, unpack(x[:, None], 32), y, case.start(number))
        assert_same_record(alone, found, f"model {number}")
    assert ours.ensemble(Case(CONFIGS["wide"], 128)) is None
