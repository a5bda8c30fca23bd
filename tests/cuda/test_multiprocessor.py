"""The model of a multiprocessor: what waits for what."""

import pytest

from bench.multiprocessor import BARRIER, LATENCIES, Instruction, Stream, cycles_of, run


def instruction(name, stall=1, sets=7, waits=0):
    return Instruction(0, name, name, False, "", stall, sets, 7, waits)


CHAIN = [instruction("FFMA", stall=4)] * 10
LOAD, USE = instruction("LDS", sets=2), instruction("FADD", waits=1 << 2)


def test_a_chain_waits_as_the_code_says():
    assert run([Stream(0, CHAIN)]) == 40


def test_another_warp_goes_on_meanwhile():
    assert run([Stream(0, CHAIN)] * 4) <= 44
    assert run([Stream(0, CHAIN)] * 8) >= 80  # an instruction a cycle
    assert run([Stream(w, CHAIN) for w in range(4)]) == 40


def test_what_is_loaded_is_waited_for():
    assert run([Stream(0, [LOAD, USE])]) == LATENCIES["LDS"] + 1


@pytest.mark.parametrize(("name", "cycles"), [("FFMA", 1), ("FSETP", 2), ("MUFU", 8)])
def test_a_pipe_is_busy(name, cycles):
    one = [instruction(name)] * 10
    assert run([Stream(0, one)]) == 9 * cycles + 1
    assert run([Stream(0, one), Stream(1, one)]) == 9 * cycles + 1


def test_the_memory_pipe_is_shared():
    one = [instruction("LDS")] * 10
    assert run([Stream(0, one), Stream(1, one)]) == 20


def test_a_barrier_waits_for_the_last_warp_of_its_block():
    long, short = [*CHAIN, None, USE], [None, USE]
    assert run([Stream(0, long), Stream(1, short)]) == 40 + BARRIER + 1
    assert run([Stream(1, short, block=1), Stream(0, short, block=2)]) == BARRIER + 1


def test_a_round_again_and_again():
    assert cycles_of([Stream(0, CHAIN)]) == 40
