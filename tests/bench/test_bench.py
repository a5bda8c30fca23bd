"""The benchmarks know the stages of a training step as it is compiled now; ours are what we say."""

import pytest
from support.records import assert_same_record

from bench import micro
from bench.cases import CONFIGS, MODELS, Case
from bench.peers import ours
from nanorepro import fit
from nanorepro.data.packing import unpack


@pytest.mark.parametrize("case", CONFIGS)
def test_every_stage_has_its_layer_and_its_work_is_counted(case):
    config = CONFIGS[case]
    known, chart = micro.stages_of(config)
    up = [stage.place for stage in known if stage.name.endswith("_forward")]
    down = [
        s.place
        for s in known
        if s.name.startswith(
            ("across_back", "fused_back", "sparse_back", "backward", "passing_back")
        )
    ]
    # a passing layer's stages are those of the layer over it, too
    pairs = zip(chart.places, chart.places[1:], strict=False)
    over = [above for place, above in pairs if place.passing]
    places = [place for place in chart.places if place not in over]
    assert up == places
    assert down == places[:0:-1]
    met = micro.Met(100.0, 20.0, distinct=4e3, terms=9e3, inputs=900.0, units=400.0)
    for stage in known:
        work = micro.work_of(config, stage, chart, met)
        assert work is not None, stage.name
        assert max(work.operations, work.divisions, work.bytes) > 0, stage.name


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
