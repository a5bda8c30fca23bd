"""The examples of a pair, shared by its two models, whoever comes first and however far ahead."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanorepro.backends.numba import backend as numba_backend
from nanorepro.config import Config
from nanorepro.data.worlds import make_world
from nanorepro.numerics.streams import stream_key
from nanorepro.training import example_stream
from nanorepro.training.example_stream import AHEAD, CHUNK, ExampleStream

WORLD = make_world(0, "linear")


class Counting:
    """A backend whose draws are counted, by the first example."""

    def __init__(self):
        self.firsts = []

    def draw(self, world, key, first, joined):
        self.firsts.append(first)
        numba_backend.draw(world, key, first, joined)


def taken(stream, model, k, own):
    """Chunk k as `model` gets it, and that it is done with it."""
    found = stream.take(model, k, own).copy()
    stream.done(model, k)
    return found


def expected(config, pair):
    joined = np.empty(config.examples, np.uint64)
    key = stream_key(config.seed, "examples", pair)
    numba_backend.draw(WORLD, key, config.first_example, joined)
    return joined


@given(st.lists(st.booleans(), max_size=60), st.booleans(), st.sampled_from([64, 128, 256]))
@settings(deadline=None)
def test_each_model_gets_all_examples_in_any_interleaving(turns, first, size):
    config = Config(model="linear", log2_examples=11, first_example=7)
    backend, wanted = Counting(), expected(config, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example_stream, "CHUNK", size)
        stream = ExampleStream(config, 3, WORLD, backend)
    at = [0, 0]
    # any interleaving, and then the one to its end and the other to its own
    for model in [*map(int, turns), *[int(first)] * 64, *[1 - int(first)] * 64]:
        k = at[model]
        if k == stream.count:
            continue
        joined = np.empty(stream.length(k), np.uint64)
        assert np.array_equal(taken(stream, model, k, joined), wanted[k * size :][:size])
        at[model] += 1
        assert len(stream.shared) + len(stream.free) <= AHEAD + 1
    assert at == [stream.count, stream.count]
    assert not stream.shared
    assert set(backend.firsts) == {7 + k * size for k in range(stream.count)}


def test_models_side_by_side_cost_one_draw_a_chunk(monkeypatch):
    monkeypatch.setattr(example_stream, "CHUNK", 64)
    backend = Counting()
    stream = ExampleStream(Config(model="linear", log2_examples=10), 0, WORLD, backend)
    joined = np.empty(64, np.uint64)
    for k in range(stream.count):
        taken(stream, k % 2, k, joined)
        taken(stream, 1 - k % 2, k, joined)
    assert backend.firsts == [64 * k for k in range(16)]
    assert len(stream.free) == 1


def test_who_would_wait_draws_the_next_chunk(monkeypatch):
    """While one thread draws chunk 0, the other one draws chunk 1, and then takes 0."""
    monkeypatch.setattr(example_stream, "CHUNK", 64)
    config = Config(model="linear", log2_examples=10)
    began, go_on, second_drawn = threading.Event(), threading.Event(), threading.Event()
    counting = Counting()

    def draw(world, key, first, joined):
        if first == 0:
            began.set()
            assert go_on.wait(30)
        counting.draw(world, key, first, joined)
        if first == 64:
            second_drawn.set()

    stream = ExampleStream(config, 0, WORLD, SimpleNamespace(draw=draw))
    found = np.empty((2, 64), np.uint64)

    def take(model):
        found[model] = taken(stream, model, 0, np.empty(64, np.uint64))

    threads = [threading.Thread(target=take, args=(m,)) for m in (0, 1)]
    threads[0].start()
    assert began.wait(30)
    threads[1].start()
    assert second_drawn.wait(30)
    assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], expected(config, 0)[:64])
    assert counting.firsts == [64, 0]


def test_a_draw_that_fails_fails_for_both():
    def draw(world, key, first, joined):
        raise MemoryError("none")

    config = Config(model="linear", log2_examples=10)
    stream = ExampleStream(config, 0, WORLD, SimpleNamespace(draw=draw))
    for model in (0, 1):
        with pytest.raises(MemoryError):
            stream.take(model, 0, np.empty(1024, np.uint64))


def test_a_long_window_is_in_no_memory_but_the_models():
    config = Config(model="linear", log2_examples=18, log2_window=13)
    backend = Counting()
    stream = ExampleStream(config, 0, WORLD, backend)
    assert stream.size == config.window == 2 * CHUNK and stream.count == 1
    joined = np.empty(stream.size, np.uint64)
    for model in (0, 1):
        assert np.array_equal(taken(stream, model, 0, joined), expected(config, 0))
    assert backend.firsts == [0, 0]
    assert not stream.shared and not stream.free
