"""The cost model: exact at what was measured, between it in proportion, and never of what it does not know."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.cost_model import Costs, CostTable, FormCost, Load, cost_table, expected_microseconds, threads_known
from rnn_export.errors import RnnExportError, SourceError
from rnn_export.forms import FORMS
from rnn_export.spec import RNNSpec

WIDTHS, BATCHES = (32, 128), (1, 8)
# hoisted: 2 us + 0.5 us per step at H = 32, B = 1, and so on; rnn is better at a batch of 1 only
COSTS = Costs(
    1,
    "tanh",
    WIDTHS,
    BATCHES,
    {
        "hoisted": FormCost((2.0, 2.0, 4.0, 4.0), (0.5, 2.0, 2.0, 16.0)),
        "rnn": FormCost((1.0, 1.0, 2.0, 2.0), (0.25, 8.0, 1.0, 64.0)),
        "blocked": FormCost((4.0, 4.0, 8.0, 8.0), (0.4, 2.0, 1.5, 16.0)),
    },
)
RELU = replace(COSTS, nonlinearity="relu", forms={"rnn": FormCost((1.0,) * 4, (0.1, 0.2, 0.3, 0.4))})
TABLE = CostTable("onnxruntime-cpu", "1.32.0", "a processor", "2026-01-01T00:00:00Z", (COSTS, RELU))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("form", "H", "B", "T", "expected"),
    [("hoisted", 32, 1, 100, 52.0), ("hoisted", 128, 8, 10, 164.0), ("rnn", 32, 8, 1, 9.0)],
)
def test_a_measured_point_is_itself(form, H, B, T, expected):
    assert expected_microseconds(TABLE, form, RNNSpec(H, H), Load(B, T)) == pytest.approx(expected)


def test_a_length_is_filled_up_to_whole_blocks():
    times = [expected_microseconds(TABLE, "blocked", RNNSpec(32, 32), Load(1, T)) for T in (1, 4, 5)]
    assert times == pytest.approx([4 + 4 * 0.4, 4 + 4 * 0.4, 4 + 8 * 0.4])


@given(H=st.integers(33, 127), B=st.integers(2, 7))
def test_between_the_points_it_is_between_them(H, B):
    expected = expected_microseconds(TABLE, "hoisted", RNNSpec(H, H), Load(B, 1000))
    assert expected is not None
    assert 2 + 500 < expected < 4 + 16000
    wider = expected_microseconds(TABLE, "hoisted", RNNSpec(H + 1, H + 1), Load(B, 1000))
    assert wider is not None
    assert wider > expected


def test_layers_and_directions_add_up():
    one, deep = (expected_microseconds(TABLE, "hoisted", RNNSpec(128, 128, layers), Load(1, 100)) for layers in (1, 3))
    assert deep == pytest.approx(3 * one)


def test_a_wider_input_takes_longer_by_its_product_and_a_narrow_one_never_less_than_half():
    rate = 4 * 128 * 128 / 1.0  # operations per microsecond, of the fastest point
    narrow, square, wide = (
        expected_microseconds(TABLE, "hoisted", RNNSpec(I, 128), Load(8, 1000))
        for I in (1, 128, 256)  # noqa: E741
    )
    assert wide - square == pytest.approx(1000 * 2 * 8 * 128 * 128 / rate)
    assert narrow == pytest.approx(4 + 1000 * (16 - 2 * 8 * 127 * 128 / rate))


def test_what_was_not_measured_is_not_known():
    assert expected_microseconds(TABLE, "scan", RNNSpec(32, 32), Load()) is None
    assert cost_table("tract") is None


def test_the_nearest_number_of_threads_answers():
    table = replace(TABLE, costs=(COSTS, replace(COSTS, threads=2), replace(COSTS, threads=8)))
    assert [threads_known(table, number) for number in (1, 2, 4, 5, 6, 64)] == [1, 2, 2, 2, 8, 8]


def test_a_linear_network_costs_what_relu_does():
    identity, relu = (
        expected_microseconds(TABLE, "rnn", RNNSpec(32, 32, 1, name), Load(1, 10)) for name in ("identity", "relu")
    )
    assert identity == relu == pytest.approx(2.0)


def test_what_was_measured_here_comes_before_what_is_shipped(cache):
    shipped = cost_table("onnxruntime-cpu")
    assert shipped is not None
    assert not shipped.here
    here = replace(TABLE, here=True)
    assert here.write() == cache / "costs" / "onnxruntime-cpu.json"
    assert cost_table("onnxruntime-cpu") == here


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "runtime": 5}'])
def test_a_damaged_table_says_what_to_do(text, cache):
    (cache / "costs").mkdir(parents=True)
    (cache / "costs" / "onnxruntime-cpu.json").write_text(text)
    with pytest.raises(SourceError, match="bench --calibrate"):
        cost_table("onnxruntime-cpu")


def test_what_is_shipped_has_a_cost_for_every_point():
    folder = Path(__file__).parent.parent / "rnn_export" / "data" / "costs"
    names = {path.stem for path in folder.glob("*.json")}
    assert "onnxruntime-cpu" in names
    for name in names:
        table = cost_table(name)
        assert table is not None
        assert {(costs.threads, costs.nonlinearity) for costs in table.costs} >= {(1, "tanh"), (1, "relu")}
        for costs in table.costs:
            points = len(costs.widths) * len(costs.batches)
            assert {len(kind) for form in costs.forms.values() for kind in (form.run, form.step)} == {points}
            usual = {form.name for form in FORMS if form.length == "dynamic" and form.quantised is None}
            assert costs.forms.keys() == usual - {"module"} or name != "onnxruntime-cpu"
            assert costs.forms
        assert not json.loads((folder / f"{name}.json").read_text())["here"]


@pytest.mark.parametrize(("H", "B"), [(8, 1), (4096, 1), (128, 512), (4096, 4096)])
def test_outside_of_the_points_a_run_costs_what_it_does_at_the_edge_and_steps_go_on(H, B):
    """Nothing explodes where a run was measured as nothing."""
    still = replace(COSTS.forms["hoisted"], run=(0.0, 2.0, 0.0, 4.0))
    table = replace(TABLE, costs=(replace(COSTS, forms={"hoisted": still}), RELU))
    short, long = (expected_microseconds(table, "hoisted", RNNSpec(H, H), Load(B, T)) for T in (1, 1001))
    step = (long - short) / 1000
    assert 0 <= short - step <= 4
    assert 1e-2 < step < 16 * (max(H, 128) / 128) ** 3 * max(B, 8) / 8


@pytest.mark.parametrize(
    "change",
    [
        {"costs": ()},
        {"costs": (COSTS,)},
        {"costs": (replace(COSTS, widths=(32,)), RELU)},
        {"costs": (replace(COSTS, widths=(128, 32)), RELU)},
        {"costs": (replace(COSTS, forms={"rnn": FormCost((1.0,) * 4, (0.0, 1.0, 1.0, 1.0))}), RELU)},
        {"costs": (replace(COSTS, forms={"rnn": FormCost((1.0,) * 3, (1.0,) * 3)}), RELU)},
    ],
)
def test_a_table_that_nothing_can_be_computed_from_is_damaged(change, cache):
    replace(TABLE, here=True, **change).write()
    with pytest.raises(SourceError, match="bench --calibrate"):
        cost_table("onnxruntime-cpu")


def test_forms_that_are_no_longer_there_are_passed_over(cache):
    old = replace(COSTS, forms={"of yesterday": COSTS.forms["rnn"]})
    replace(TABLE, here=True, costs=(old, replace(old, nonlinearity="relu"))).write()
    table = cost_table("onnxruntime-cpu")
    assert table is not None
    assert expected_microseconds(table, "rnn", RNNSpec(32, 32), Load()) is None


def test_a_cache_that_cannot_be_written_is_said(monkeypatch):
    monkeypatch.setenv("RNN_EXPORT_CACHE", "/proc/nowhere")
    with pytest.raises(RnnExportError, match="cannot"):
        TABLE.write()
