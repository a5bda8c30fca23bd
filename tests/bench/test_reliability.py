"""What the count of kills finds, and that it finds something where there is something."""

from bench.reliability import Toll, Watch, grid, grid_file
from nanorepro import Config, save, simulate
from nanorepro.sweeps.grid import expand, read

CONFIGS = [Config(model="linear", log2_examples=6, log2_eval=4, pairs=1, seed=k) for k in (0, 1)]


def watched(folder):
    results = [simulate(config, "reference", 1) for config in CONFIGS]
    paths = [save(result, folder) for result in results]
    toll = Toll()
    watch = Watch(folder, {r.config.id: r.fingerprint for r in results}, toll)
    watch.look()
    assert toll == Toll()
    return watch, paths, toll


def test_sound_runs_cost_nothing(tmp_path):
    watch, _, toll = watched(tmp_path)
    watch.end(2)
    assert toll.clean and toll.finished == 2


def test_a_lost_run_is_counted(tmp_path):
    watch, paths, toll = watched(tmp_path)
    paths[0].unlink()
    watch.end(2)
    assert (toll.lost, toll.failed, toll.clean) == (1, 1, False)


def test_a_damaged_file_is_counted(tmp_path):
    watch, paths, toll = watched(tmp_path)
    (tmp_path / "x.checkpoint").write_bytes(b"x")
    paths[0].chmod(0o644)
    paths[0].write_bytes(b"x")
    watch.look()
    assert (toll.damaged, toll.clean) == (2, False)


def test_other_bits_are_counted(tmp_path):
    watch, _, toll = watched(tmp_path)
    watch.expected[CONFIGS[0].id] = "0" * 64
    watch.look()
    assert (toll.other, toll.clean) == (1, False)


def test_the_grid_is_that_of_the_file(tmp_path):
    made = expand(read(str(grid_file(tmp_path, 9))), None).configs
    assert {c.id for c in made} == {c.id for some in grid(9).values() for c in some}
