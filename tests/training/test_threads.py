"""Work that threads share: results in order, and one failure ends all."""

import threading
import time

import pytest

from nanorepro.backends.protocols import Interrupted
from nanorepro.training.threads import ThreadedWork


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_the_keys_and_told_as_they_come(threads):
    work, told, here = ThreadedWork(0, None), [], threading.get_ident()

    def part(key):
        time.sleep(0.02 * (3 - key))
        return key * key

    def ended(key, result):
        assert threading.get_ident() == here
        told.append((key, result))

    assert work.run(part, [0, 1, 2], threads, ended) == [0, 1, 4]
    assert sorted(told) == [(0, 0), (1, 1), (2, 4)]
    assert threads == 1 or told[0] == (2, 4)


def test_a_failure_of_a_late_part_ends_the_early_ones():
    work, ends = ThreadedWork(1 << 60, None), []

    def part(key):
        if key == 1:
            raise ZeroDivisionError
        try:
            while True:
                work.report(1)
                time.sleep(0.001)
        except Interrupted:
            ends.append(key)
            raise

    with pytest.raises(ZeroDivisionError):
        work.run(part, range(9), 2)
    assert ends == [0]  # and those that wait never begin


def test_what_progress_raises_comes_out_and_it_is_not_called_again():
    calls = []

    def progress(done, total):
        calls.append((done, total))
        raise KeyError("enough")

    work = ThreadedWork(100, progress, done=5)

    def part(key):
        while True:
            work.report(1)

    with pytest.raises(KeyError, match="enough"):
        work.run(part, range(4), 4)
    assert calls == [(6, 100)]


def test_a_failure_where_results_are_taken_ends_the_rest():
    work = ThreadedWork(1 << 60, None)

    def part(key):
        while key:
            work.report(1)
            time.sleep(0.001)

    def ended(key, result):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work.run(part, [0, 1], 2, ended)


def test_no_more_is_done_than_there_is():
    told = []
    work = ThreadedWork(3, lambda *numbers: told.append(numbers))
    work.report(2)
    work.report(2)
    assert told == [(2, 3), (3, 3)]
