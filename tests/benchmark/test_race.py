"""Entrants take turns, in the opposite order every other round, and one that fails disturbs nobody."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from rnn_export.benchmark.race import Entrant, race
from rnn_export.pipeline import export
from rnn_export.result import Status
from rnn_export.runtimes import RUNTIMES
from tests.subjects import PATIENCE, descendants, fake

INPUTS = {"input": np.ones((5, 2, 3), np.float32), "h_0": np.zeros((1, 2, 4), np.float32)}
TURN = 0.004  # seconds: two runs of the fake, so that it makes the three that it has to


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return export("rnn:3,4", tmp_path_factory.mktemp("race") / "scan").path


@pytest.fixture
def enter(folder, tmp_path) -> Iterator:
    """Registers a fake of that name, and gives its entrant."""
    names = []

    def enter(name: str, **environ: str) -> Entrant:
        runtime = replace(fake("turns", NAME=name, TURNS=str(tmp_path / "turns"), **environ), name=f"fake-{name}")
        RUNTIMES.add(runtime)
        names.append(runtime.name)
        return Entrant(name, runtime.name, folder, INPUTS)

    yield enter
    for name in names:
        RUNTIMES.remove(name)


def turns_in(folder: Path) -> str:
    return "".join(name for name, _ in groupby((folder / "turns").read_text().split()))


class TestOrder:
    def test_all_are_warmed_up_and_every_other_round_goes_the_other_way(self, enter, tmp_path):
        race([enter(name) for name in "abc"], 3, TURN)
        # a b c for warming up, a b c, c b a, a b c
        assert turns_in(tmp_path) == "abc" + "abc" + "ba" + "bc"

    def test_what_is_called_before_a_round_is_called_while_nobody_runs(self, enter, tmp_path):
        seen = []
        race([enter("a"), enter("b")], 2, TURN, before_round=lambda number: seen.append((number, turns_in(tmp_path))))
        assert seen == [(0, "ab"), (1, "abab")]


class TestLaps:
    def test_they_are_what_each_entrant_showed(self, enter):
        quick, slow = race([enter("quick"), enter("slow", SLOWNESS="5")], 4, TURN)
        assert [laps.label for laps in (quick, slow)] == ["quick", "slow"]
        for laps in (quick, slow):
            assert (laps.status, laps.detail, len(laps.seconds)) == (Status.PASS, "", 4)
            assert laps.version
            assert 0 < laps.load_seconds < PATIENCE
            assert laps.peak_bytes > 2**20
            assert laps.answers["output"].shape == (5, 2, 4)
        assert min(slow.seconds) >= 0.01
        assert min(quick.seconds) >= 0.002

    def test_one_that_dies_keeps_its_laps_and_is_the_end_of_no_other(self, enter, tmp_path):
        # three runs to warm up, three of the first round, and the first of the second
        dies, lives = race([enter("dies", DIES="7"), enter("lives")], 4, TURN)
        assert (dies.status, len(dies.seconds)) == (Status.CRASHED, 1)
        assert "SIGABRT" in dies.detail
        assert (lives.status, len(lives.seconds)) == (Status.PASS, 4)

    def test_one_that_is_absent_is_a_row_that_says_so(self, folder, enter):
        absent, here = race([Entrant("absent", "onnxruntime@0.0.1", folder, INPUTS), enter("here")], 1, TURN)
        assert (absent.status, absent.seconds) == (Status.ABSENT, ())
        assert "rnn-export runtimes install onnxruntime@0.0.1" in absent.detail
        assert here.status is Status.PASS

    def test_one_that_refuses_the_network_does_so_in_its_own_words(self, folder, enter):
        narrow = {**INPUTS, "input": np.ones((5, 2, 7), np.float32)}
        (laps,) = race([Entrant("narrow", "onnxruntime-cpu", folder, narrow)], 1, TURN)
        assert laps.status is Status.REFUSED
        assert "Got invalid dimensions" in laps.detail

    def test_one_that_takes_too_long_is_given_up(self, enter):
        slow, quick = race([enter("slow", SLOWNESS="600"), enter("quick")], 1, TURN, timeout=3.0)
        assert (slow.status, quick.status) == (Status.TIMEOUT, Status.PASS)


def test_one_that_was_given_up_runs_no_longer_beside_the_others(folder):
    refusing = Entrant("narrow", "onnxruntime-cpu", folder, {**INPUTS, "input": np.ones((5, 2, 7), np.float32)})
    before, meanwhile = descendants(), []
    race([refusing], 1, TURN, before_round=lambda _: meanwhile.append(descendants()))
    assert meanwhile[0] <= before


def test_nothing_is_left_running(enter):
    before = descendants()
    race([enter("a"), enter("b", DIES="2")], 1, TURN)
    assert descendants() <= before


def test_nothing_is_left_running_after_an_interruption(enter):
    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    before = descendants()
    with pytest.raises(KeyboardInterrupt):
        race([enter("a")], 1, TURN, before_round=interrupt)
    assert descendants() <= before
