"""Signals that end a command: one that is sent twice at once, as `timeout` does, is one."""

import os
import signal
import time

import pytest

from nanorepro.training import signals
from nanorepro.training.signals import TOGETHER, Terminated, ends_when_kept, termination_raises

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def kill():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_a_signal_that_is_sent_twice_at_once_is_raised_once():
    with termination_raises():
        with pytest.raises(Terminated):
            kill()
        kill()  # no error
        time.sleep(TOGETHER)
        with pytest.raises(Terminated):
            kill()


def test_while_a_checkpoint_is_written_a_second_one_ends_it(monkeypatch):
    def ended(name, number):
        raise SystemExit(f"{name}: {number}")

    monkeypatch.setattr(signals, "_exit", ended)
    with ends_when_kept("a command", lambda: True):
        with pytest.raises(Terminated):
            kill()
        kill()  # no error
        time.sleep(TOGETHER)
        with pytest.raises(SystemExit, match=f"a command: {int(signal.SIGTERM)}"):
            kill()
