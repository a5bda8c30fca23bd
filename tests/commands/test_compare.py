"""The command and the function that compare runs, files and series."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.commands import TINY, call, refused

import nanorepro
from nanorepro import Config, compare, save, simulate
from nanorepro.commands import compare as command
from nanorepro.errors import ConfigError

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 4)).astype("f4")
B = RNG.normal(size=4).astype("f4")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**changes):
    settings = {"hidden": "4,4", "log2_examples": 6, "log2_eval": 4, "pairs": 2, **changes}
    return simulate(Config(**settings), backend="reference", threads=1)


def told(*words):
    status, said, warned = call(command.main, *words)
    assert warned == ""
    return status, said


def test_equal_files(elsewhere):
    np.savez("a.npz", w=W, b=B)
    np.savez_compressed("b.npz", w=W, b=B)
    status, said = told("a.npz", "b.npz")
    assert (status, said) == (0, "A  a.npz\nB  b.npz\nall 2 tensors are equal, bit for bit\n")
    assert told("a.npz", "b.npz", "--fail-on", "any")[0] == 0


def test_files_that_differ(elsewhere):
    other = W.copy()
    other[1, 2] = np.nextafter(other[1, 2], np.float32(9))
    np.savez("a.npz", w=W, b=B, mine=B, shape=W)
    np.savez("b.npz", w=other, b=B, theirs=B, shape=W[:2])
    status, said = told("a.npz", "b.npz")
    assert status == 0
    for line in (
        "only in A: mine", "only in B: theirs", "1 of 2 tensors differ",
        "not compared: shape is float32 (3, 4) in A, float32 (2, 4) in B",
    ):  # fmt: skip
        assert line in said
    row = next(line.split() for line in said.splitlines() if line.startswith("  w "))
    assert row[:6] == ["w", "3x4", "1", "of", "12", "1"]
    assert told("a.npz", "b.npz", "--fail-on", "any")[0] == 1
    record = json.loads(told("a.npz", "b.npz", "--json")[1])
    tensor = record["checkpoints"][0]["tensors"][0]
    assert (tensor["largest_ulp"], tensor["first_unequal"]) == (1.0, [1, 2])
    assert record["equal"] is False


def test_two_runs_of_two_configurations(elsewhere):
    one, other = run(), run(lr=0.11)
    paths = [str(save(r, "runs")) for r in (one, other)]
    _, said = told(*paths)
    assert "they differ in lr\n  lr  0.1 in A, 0.11 in B\n" in said
    assert "the same examples in the same order" in said
    pd = f"relative PD: {one.relative_pd:.4g} in A, {other.relative_pd:.4g} in B"
    assert pd in said
    assert compare(one, other).differences[0].field == "lr"
    assert compare(one, other).checkpoints == compare(*paths).checkpoints
    _, said = told(paths[0], paths[0])
    assert "identical: the fingerprints" in said and "16 tensors are equal" not in said
    assert "all 24 tensors are equal, bit for bit" in said


@pytest.mark.parametrize(
    "changes, note",
    [
        ({"seed": 1}, "not the same examples: they differ in seed"),
        ({"log2_examples": 7}, "the 64 examples of A are the first of the other's 128"),
        ({"log2_window": 1}, "not in the same order: they differ in log2_window"),
        ({"act": "swish"}, "the same examples in the same order"),
        ({"beta": 2.0}, "identical"),
    ],
)
def test_what_configurations_mean(changes, note):
    assert any(note in line for line in compare(run(), run(**changes)).notes)


def test_models_of_runs(elsewhere):
    result = run()
    path = str(save(result, "."))
    found = compare(f"{path}#0.0", f"{path}#0.1")
    assert "the same examples, not in the same order: they differ in shuffle" in found.notes
    assert [t.name for t in found.checkpoints[0].tensors] == ["w0", "b0", "w1", "b1", "w2", "b2"]
    a, b = (result.parameters[0][m] for m in (0, 1))
    assert found.checkpoints[0].tensors == compare(a, b).checkpoints[0].tensors
    assert (
        "not the same examples: they differ in the pair"
        in compare(f"{path}#0.0", f"{path}#1.0").notes
    )
    assert {t.name for t in compare(f"{path}#0", f"{path}#1").checkpoints[0].tensors} >= {"0/w0"}
    for part in ("2", "0.2", "x", "0.0.0", "-1"):
        assert "no model of this run" in refused(command.main, f"{path}#{part}", path)
    assert "nothing follows the #" in refused(command.main, f"{path}#", path)


def test_names_and_axes_of_another_program(elsewhere):
    deep = RNG.normal(size=(2, 3, 4, 5))
    square = RNG.normal(size=(3, 3))
    np.savez("keras.npz", w0=W, b0=B, conv=deep, square=square)
    np.savez(
        "torch.npz",
        **{"net.0.weight": W.T, "net.0.bias": B, "c": deep.transpose(3, 2, 0, 1), "s": square.T},
    )
    words = ["keras.npz", "torch.npz", "--rename", "net.*.weight=w*", "--rename", "net.*.bias=b*",
             "--rename", "c=conv", "--rename=s=square", "--transpose", "conv=2,3,1,0"]  # fmt: skip
    _, said = told(*words)
    assert "1 of 4 tensors differ; the others are equal" in said
    assert "square is square and was compared as stored" in said
    _, said = told(*words, "--transpose", "square")
    assert "all 4 tensors are equal, bit for bit" in said
    line = refused(command.main, "keras.npz", "torch.npz")
    assert "no name in common" in line and "--rename" in line
    for wrong, message in (
        (["--rename", "x=w0"], "no tensor of B is named 'x'"),
        (["--rename", "net"], "OLD=NEW"),
        (["--rename", "c=w*"], "has more *"),
        (["--rename", "c=conv", "--rename", "c=w"], "renamed twice"),
        (["--rename", "*=w0"], "two tensors of B would be 'w0'"),
        (["--rename", "c=conv", "--transpose", "conv=0,1"], "each of 0 to 3 once"),
        (["--rename", "c=conv", "--transpose", "w9"], "'w9' is not in both"),
        (["--transpose", "w0=a"], "NAME=AXES"),
        (["--fail-on", "all"], "any"),
        (["--picture", "a.txt"], ".png"),
    ):
        assert message in refused(command.main, "keras.npz", "torch.npz", *wrong)


def test_names_whose_parts_are_separated_otherwise(elsewhere):
    np.savez("torch.npz", **{"0.bias": B, "0.weight": W, "0.a/b": B, "0.a.b": W})
    for k, name in enumerate(("flax.npz", "c.npz", "d.npz", "e.npz")):
        np.savez(name, **{"0/bias": B, "0/weight": W + k * np.spacing(W), "0/a/b": B})
    found = compare("torch.npz", "flax.npz", replicates=["c.npz", "d.npz", "e.npz"])
    assert [t.name for t in found.checkpoints[0].tensors] == ["0.bias", "0.weight"]
    # two names of A are the path of 0/a/b: neither is taken
    assert found.checkpoints[0].only_a == ("0.a/b", "0.a.b")
    assert found.checkpoints[0].only_b == ("0/a/b",)
    # a name that both have is itself
    np.savez("both.npz", **{"0/bias": W, "0.bias": B, "0/weight": W})
    found = compare("torch.npz", "both.npz")
    assert {t.name: t.unequal for t in found.checkpoints[0].tensors} == {"0.bias": 0, "0.weight": 0}
    assert "no name in common" not in told("torch.npz", "flax.npz")[1]


def test_parts_of_files(elsewhere):
    np.savez("a.npz", **{"encoder/w": W, "decoder/w": W, "b": B})
    assert compare("a.npz#encoder/", "a.npz#decoder").equal
    assert "no tensor's name begins with 'x'" in refused(command.main, "a.npz#x", "a.npz")
    np.savez("b.npz", **{"enc/x": W, "enc.x": B})
    said = "'enc/x' and 'enc.x' are both 'x' there; give a beginning that only one of them has"
    assert said in refused(command.main, "b.npz#enc", "a.npz")


@pytest.fixture
def series(elsewhere):
    for folder, step in (("a", 3), ("b", 11)):
        (elsewhere / folder).mkdir()
        for k in (1, 2, 3, 9, 10, 11):
            moved = W.copy()
            if folder == "b" and k >= step - 1:
                moved[0, 0] += k
            np.savez(f"{folder}/model_{k}.npz", w=moved, b=B)
    return elsewhere


def test_series_in_the_order_of_their_numbers(series):
    found = compare("a", "b")
    assert [c.number for c in found.checkpoints] == [1, 2, 3, 9, 10, 11]
    assert found.first_different.a == "model_10"
    _, said = told("a", "b/*.npz")
    assert "they first differ at model_10; 4 before it are equal, bit for bit" in said
    (series / "b" / "model_11.npz").unlink()
    (series / "b" / "model_12.npz").write_bytes((series / "a" / "model_1.npz").read_bytes())
    found = compare("a", "b")
    assert (found.only_a, found.only_b) == (("model_11",), ("model_12",))
    status, said = told("a", "b", "--picture", "p.svg", "--fail-on", "any")
    assert status == 1 and "checkpoints only in A: model_11" in said
    assert "model_10" in json.loads(told("a", "b", "--json")[1])["first_different"]
    for what in ("w", "b", "all"):
        assert f"relative_distance {what}" in (series / "p.svg").read_text()


def test_series_that_do_not_fit(series):
    assert "A is a series of checkpoints and B is not" in refused(
        command.main, "a", "a/model_1.npz"
    )
    np.savez("a/optimizer_1.npz", w=W)
    line = refused(command.main, "a", "b")
    assert "several series (model_*, optimizer_*)" in line and "a/model_*" in line
    assert compare("a/model_*.npz", "a/model_*.npz").equal
    assert "no file fits" in refused(command.main, "a/x*.npz", "b")
    (series / "c").mkdir()
    assert "no file of tensors" in refused(command.main, "c", "b")


def test_folders_and_shards_are_checkpoints(elsewhere):
    for step in (500, 1000):
        folder = elsewhere / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        np.savez(folder / "model-00001-of-00002.npz", w=W)
        np.savez(folder / "model-00002-of-00002.npz", b=B)
    found = compare("out", "out")
    assert [c.number for c in found.checkpoints] == [500, 1000]
    assert [t.name for t in found.checkpoints[0].tensors] == ["w", "b"]
    (folder / "model-00002-of-00002.npz").unlink()
    assert "1 of the 2 shards" in refused(command.main, "out", "out")


def test_arrays_and_lists_of_python():
    found = compare([{"w": W}, {"w": W}], [{"w": W}, {"w": W + 1}])
    assert [c.equal for c in found.checkpoints] == [True, False]
    assert compare({"layer": {"w": W}}, {"layer/w": W}).equal
    for wrong, message in (
        (3, "a: 3 cannot be compared"),
        ([], "cannot be compared"),
        ({"w": "text"}, "a: 'w' is of type"),
        ({1: W}, "no name"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare(wrong, {"w": W})


def test_the_picture(elsewhere):
    np.savez("a.npz", w=W, b=B)
    np.savez("b.npz", w=W + 1, b=np.full(4, np.nan, "f4"))
    assert told("a.npz", "b.npz", "--picture", "p.svg")[0] == 0
    text = (elsewhere / "p.svg").read_text()
    for name in ("largest", "median", "largest infinite", "relative distance"):
        assert f'id="{name}"' in text


def test_the_module_is_the_function():
    import importlib

    module = importlib.import_module("nanorepro.compare")
    assert module is nanorepro.compare is compare


def test_a_run_is_told_by_its_content(elsewhere):
    status, _, _ = call(__import__("nanorepro.commands.run", fromlist=["main"]).main, *TINY, "-q")
    assert status == 0
    path = next((elsewhere / "runs").glob("*.h5"))
    path.rename("model.bin")
    assert compare("model.bin", "model.bin").notes[0].startswith("identical")


@pytest.fixture
def runs(elsewhere):
    """Folders of runs: four that differ in their streams, two of them once more, longer ones."""
    of = {
        "four": [{"first_stream": k} for k in range(4)], "two": [{}, {"first_stream": 1}],
        "longer": [{"log2_examples": 9}],
    }  # fmt: skip
    small = {"hidden": "2", "log2_examples": 8, "log2_eval": 4, "pairs": 1}
    for folder, changes in of.items():
        for changed in changes:
            nanorepro.save(nanorepro.simulate(Config(**{**small, **changed}), "reference"), folder)
    return {folder: sorted(Path(folder).glob("*.h5")) for folder in of}


def test_folders_and_patterns_of_runs_are_runs(runs):
    for a, b in (("four", "two"), ("four/*.h5", "two/*.h5")):
        found = compare(a, b)
        assert found.first_different is None and len(found.checkpoints) == 2
        assert {c.a for c in found.checkpoints} == {path.stem for path in runs["two"]}
        assert {t.name for t in found.checkpoints[0].tensors} >= {"0.0/w0", "0.1/b1"}
        assert set(found.only_a) == {p.stem for p in runs["four"]} - {p.stem for p in runs["two"]}
    one, longer = "two/*.h5#0.1", "longer/*.h5#0.1"
    assert {t.name for t in compare(one, one).checkpoints[0].tensors} == {"w0", "b0", "w1", "b1"}
    found = compare(one, longer)
    assert "no run is in the names of both series: compared in their order" in found.notes
    assert "log2_examples" in {d.field for d in found.differences}
    path = runs["two"][0]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for a in ("two", "two/*.h5", path):
        assert "damaged" in refused(command.main, str(a), str(a))


def test_replicates_by_a_pattern_are_those_by_name(runs):
    a, b, *others = map(str, runs["four"])
    Path("rest").mkdir()
    for path in others:
        shutil.copy(path, "rest")
    for part in ("", "#0.1"):
        names = [a + part, b + part, "--level", "0.3", "--replicates"]
        said = [
            [line for line in told(*names, *which)[1].splitlines() if "no replicate" not in line]
            for which in (["rest/*.h5" + part], [f"rest/{Path(p).name}{part}" for p in others])
        ]
        assert said[0] == said[1]
        assert any("against A and 2 replicates" in line for line in said[0])


def test_a_pipe_is_no_file(elsewhere):
    os.mkfifo("f.npz")
    assert "not a file" in refused(command.main, "f.npz", "f.npz")


@pytest.fixture
def replicates(elsewhere):
    """A, 20 replicates, one more, and one that is not."""
    rng = np.random.default_rng(1)
    (elsewhere / "reps").mkdir()
    for k in range(20):
        np.savez(f"reps/r{k}.npz", w=W + 1e-6 * rng.normal(size=W.shape).astype("f4"), b=B)
    for name, more in (("a", 0.0), ("good", 0.0), ("bad", 1e-5)):
        np.savez(f"{name}.npz", w=W + 1e-6 * rng.normal(size=W.shape).astype("f4") + more, b=B)
    return elsewhere


def test_verdicts(replicates):
    for name, status, line in (
        ("good", 0, "within rounding: p = "),
        ("bad", 1, "beyond rounding: p = 0.0455 (rank test at 0.05 against A and 20 replicates"),
    ):
        words = ["a.npz", f"{name}.npz", "--replicates", "reps", "--fail-on", "beyond"]
        got, said = told(*words)
        assert got == status and line in said
        assert told(*words[:-2])[0] == 0
        record = json.loads(told(*words, "--json")[1])["test"]
        assert record["verdict"] in line and record["replicates"] == 20
    files = [f"reps/r{k}.npz" for k in range(20)]
    assert said == told("a.npz", "bad.npz", "--fail-on", "beyond", "--replicates", *files)[1]
    assert told("a.npz", "bad.npz", "--replicates", *files[:5])[1].count("undecided: p is ") == 1
    found = compare("a.npz", "bad.npz", replicates=files, level=0.01)
    assert found.test.verdict == "undecided"


def test_replicates_that_are_none(replicates):
    words = ["a.npz", "bad.npz"]
    np.savez("other.npz", v=W)
    np.savez("shape.npz", w=W[:2], b=B)
    for more, message in (
        (["--replicates", "other.npz"], "other.npz and A have no name in common"),
        (["--replicates", "shape.npz"], "shape.npz has no 'w' of shape (3, 4)"),
        (["--replicates", "none.npz"], "no such file"),
        (["--replicates", "reps", "a.npz"], "a.npz is A, too: each file counts once"),
        (["--replicates", "reps", "./reps/../bad.npz"], "bad.npz is B, too"),
        (["--replicates", "reps", "reps/r3.npz"], "reps/r3.npz is another replicate, too"),
        (["--replicates"], "--replicates: the value is missing"),
        (["--level", "0.1"], "--level: goes with replicates; give --replicates"),
        (["--fail-on", "beyond"], "beyond goes with replicates"),
        (["--replicates", "reps", "--level", "2"], "below 1"),
    ):
        assert message in refused(command.main, *words, *more)
    with pytest.raises(ConfigError, match="replicates: 'reps' is no list"):
        compare(*words, replicates="reps")


def test_a_comparison_that_cannot_say_what_fail_on_asks_is_kept(replicates):
    words = ["a.npz", "bad.npz", "--replicates", "reps/r1.npz", "--json", "--picture", "p.png"]
    status, said, warned = call(command.main, *words, "--fail-on", "beyond")
    assert status == 2 and warned.count("\n") == 1 and "needs at least 18" in warned
    assert json.loads(said)["test"]["verdict"] == "undecided" and Path("p.png").stat().st_size > 0
    assert (0, said, "") == call(command.main, *words)


def test_replicates_of_series_and_runs(series):
    with pytest.raises(ConfigError, match="is one checkpoint, A a series"):
        compare("a", "b", replicates=["a/model_1.npz"])
    (series / "more").mkdir()
    for k in range(18):
        shutil.copytree("a", f"more/{k}")
    more = [f"more/{k}" for k in range(18)]
    found = compare("a", "b", replicates=more)
    assert (found.test.verdict, found.test.p) == ("beyond rounding", 1 / 20)
    assert found.test.stands_out_at == "model_10" and len(found.test.by_checkpoint) == 6
    shutil.copytree("a", "c")
    assert compare("a", "c", replicates=more).test.p == 1.0
    one, other = run(), run(lr=0.11)
    note = f"run {other.config.id} is no replicate of A: they differ in lr"
    assert note in compare(one, one, replicates=[other]).notes


def test_counts_of_steps_are_in_no_distance_over_all():
    found = compare({"w": W, "step": 10**6}, {"w": W, "step": 2 * 10**6}).checkpoints[0]
    assert not found.equal and found.tensors[1].largest_ulp == 10**6
    assert (found.largest_ulp, found.relative_distance, found.angle) == (0.0, 0.0, 0.0)
    assert compare({"n": 1}, {"n": 3}).checkpoints[0].relative_distance == 2.0


def test_numbers_whose_squares_overflow():
    a, b = {"v": np.array([3e200, 0.0]), "w": W}, {"v": np.array([3e200, 4e200]), "w": W}
    found = compare(a, b).checkpoints[0]
    assert found.relative_distance == pytest.approx(4 / 3)
    assert math.isnan(found.angle) or found.cosine == pytest.approx(0.6)
    alone = compare({"v": a["v"]}, {"v": b["v"]})
    assert alone.checkpoints[0].cosine == pytest.approx(0.6)
    json.dumps(alone.to_dict(), allow_nan=False)
    assert "1 - cosine" in str(alone)


def test_a_matrix_whose_asked_for_transpose_does_not_fit_is_shown_as_that(elsewhere):
    np.savez("a.npz", w=W, b=B)
    np.savez("b.npz", w=W, b=B)
    _, said = told("a.npz", "b.npz", "--transpose", "w")
    assert "w is float32 (3, 4) in A, float32 (4, 3), its axes in A's order in B" in said


@pytest.mark.parametrize("rename", ["foo=w", ["foo=w"]])
def test_a_renaming_that_is_no_mapping_is_refused(rename, elsewhere):
    np.savez("a.npz", w=W)
    with pytest.raises(ConfigError, match="rename: .* is no mapping; give {'OLD': 'NEW'}"):
        compare("a.npz", "a.npz", rename=rename)
