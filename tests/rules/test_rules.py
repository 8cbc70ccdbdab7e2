"""Each mistake gives its code and no other, and the repository without it gives none."""

import json

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rnn_export.report import Report
from rnn_export.repository.checking import check_repository
from rnn_export.repository.other_programs import OUR_CODE
from rnn_export.result import Status
from rnn_export.rules import RULES
from scripts.wrong.repositories import (
    H_C,
    INPUT_SIZE,
    PAIRS,
    RELEASE,
    WARNINGS,
    changed,
    network,
    sizes,
    stateless,
    streaming,
    write,
)  # fmt: skip

WHOLE = {"max_batch_size": 0, "dynamic_batching": None, "input": [sizes("x", -1, -1, INPUT_SIZE)]}


def codes(report: Report) -> set[str]:
    return {row.code for row in report.results if row.code}


def details(report: Report) -> str:
    return "\n".join(row.detail for row in report.results)


def checked(folder, model, config, **more) -> Report:
    return check_repository(write(folder / "repository", model, config), **more)


def test_every_rule_is_explained():
    names = [rule.name for rule in RULES.in_order()]
    assert names == [*(f"T{number}" for number in range(1, 15)), "unreadable"]
    for rule in RULES:
        assert len(rule.meaning) > 40
        assert rule.remedy.endswith(".")
        assert 10 < len(rule.next_step) < 120


def test_every_rule_that_can_fail_has_a_pair():
    assert set(PAIRS) == {rule.name for rule in RULES} - {"T7", "unreadable"}  # a note, and test_repository's


@pytest.mark.parametrize("code", PAIRS)
def test_a_mistake_gives_its_code_and_no_other(code, tmp_path):
    PAIRS[code].wrong(tmp_path / "repository")
    report = check_repository(tmp_path / "repository", release=RELEASE if code == "T13" else None)
    assert codes(report) == {code}
    assert report.exit_code == (0 if code in WARNINGS else 1)
    found = [row for row in report.results if row.code]
    assert {row.status for row in found} == {Status.DIVERGENCE if code in WARNINGS else Status.MISMATCH}
    assert all("lstm" in row.detail or "config.pbtxt" in row.detail for row in found)
    assert all(RULES.get(code).next_step in row.detail for row in found)


@pytest.mark.parametrize("code", PAIRS)
def test_the_twin_without_it_gives_none(code, tmp_path):
    PAIRS[code].right(tmp_path / "repository")
    report = check_repository(tmp_path / "repository", release=RELEASE if code == "T13" else None)
    assert codes(report) == set()
    assert report.exit_code == 0
    # and the rule itself was asked, except where there is nothing left to ask
    assert code in ("T1", "T14") or f"lstm/1 {code}" in {row.case for row in report.results if row.passed}


def test_t1_a_configuration_without_lists_is_completed_too(tmp_path):
    report = checked(tmp_path, network(batch_first=False), {"backend": "onnxruntime"})
    assert codes(report) == {"T1"}
    assert "lists no inputs or no outputs" in details(report)


def test_t1_what_is_batch_first_or_cannot_batch_is_a_note(tmp_path):
    first = checked(tmp_path / "a", network(), None)
    assert (codes(first), "so that is right" in details(first)) == (set(), True)
    fixed = checked(tmp_path / "b", network(batch_first=False, states=H_C, states_batch_first=False), None)
    assert (codes(fixed), "Triton will not batch" in details(fixed)) == (set(), True)


def test_t2_also_without_a_batcher(tmp_path):
    assert codes(checked(tmp_path, network(batch_first=False), stateless(dynamic_batching=None))) == {"T2"}


def test_t2_states_are_rows_too(tmp_path):
    """Here every row starts from the state of another: what a client sends stays apart, and its state does not."""
    model = network(states=H_C)
    for node in model.graph.node:
        node.input[:] = ["turned_h" if name == "h_in" else name for name in node.input]
    for name, value in (("first", -1), ("last", -(2**62)), ("zeroth", 0), ("back", -1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    node = helper.make_node("Slice", ["h_in", "first", "last", "zeroth", "back"], ["turned_h"])
    model.graph.node.insert(0, node)
    assert codes(checked(tmp_path, model, streaming())) == {"T2"}


@pytest.mark.parametrize("backend", ["python", "tensorrt", "pytorch"])
def test_t2_what_is_not_run_is_not_proved(backend, tmp_path):
    folder = write(tmp_path / "repository", network(), stateless(backend=backend))
    (folder / "lstm" / "1" / "model.py").write_text("raise SystemExit('it was run')")
    report = check_repository(folder)
    (row,) = (row for row in report.results if row.code)
    assert (row.code, row.status) == ("T2", Status.DIVERGENCE)
    assert "is not proved" in row.detail


def test_t3_whole_dims_and_direct_are_right_without_batching(tmp_path):
    whole = streaming(**WHOLE, output=[sizes("y", -1, -1, 8)])
    config = changed(whole, "sequence_batching", "oldest", to=None)
    for place in (0, 1):
        config = changed(config, "sequence_batching", "state", place, "dims", to=[1, 1, 8])
    config["sequence_batching"]["direct"] = {}
    model = network(batch_first=False, states=H_C, states_batch_first=False)
    assert codes(checked(tmp_path, model, config)) == set()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dims", [2, 8], "has dims [2, 8] behind the batch"),
        ("dims", [8], "has dims [8] behind the batch"),
        ("data_type", "TYPE_FP16", "has TYPE_FP16, but the graph TYPE_FP32"),
    ],
)
def test_t3_a_state_of_another_shape_or_type(key, value, said, tmp_path):
    report = checked(
        tmp_path, network(states=H_C), changed(streaming(), "sequence_batching", "state", 0, key, to=value)
    )
    assert codes(report) == {"T3"}
    assert said in details(report)


def test_t3_a_state_that_the_graph_does_not_have(tmp_path):
    report = checked(tmp_path, network(states=H_C), streaming(("h_in", "c_in", "h_out", "c_next")))
    assert codes(report) == {"T3"}
    assert "'c_next' is not in the graph, which has y, h_out, c_out" in details(report)


INITIAL = ("sequence_batching", "state", 0, "initial_state", 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "which is not in lstm/initial_state"), (b"\0" * 12, "has 12 bytes, and not 32"), (b"\0" * 32, "")],
)
def test_t4_a_learned_state_has_to_be_there(content, said, tmp_path):
    config = changed(streaming(), *INITIAL, "zero_data", to=None)
    config = changed(config, *INITIAL, "data_file", to="h_0")
    folder = write(tmp_path / "repository", network(states=H_C), config)
    if content is not None:
        (folder / "lstm" / "initial_state").mkdir()
        (folder / "lstm" / "initial_state" / "h_0").write_bytes(content)
    report = check_repository(folder)
    assert codes(report) == ({"T4"} if said else set())
    assert said in details(report)


@pytest.mark.parametrize("value", [None, False])
def test_t4_an_initial_state_that_says_nothing(value, tmp_path):
    report = checked(tmp_path, network(states=H_C), changed(streaming(), *INITIAL, "zero_data", to=value))
    assert codes(report) == {"T4"}


def test_t5_prefixes_swap_too(tmp_path):
    names = ("a", "a_len", "a_next", "a_len_next")
    assert codes(checked(tmp_path, network(states=names), streaming(names))) == {"T5"}


def test_t7_is_a_note(tmp_path):
    report = checked(tmp_path, network(), stateless())
    (row,) = (row for row in report.results if row.case == "lstm/1 T7")
    assert (row.status, row.code) == (Status.PASS, "")
    assert "run apart" in row.detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": [sizes("x", -1, 5)]}, "input 'x' has dims [-1, 5] behind the batch, but the graph has x [B, T, 4]"),
        ({"input": [sizes("x", -1, -1)]}, "input 'x' has dims [-1, -1]"),
        ({"input": [sizes("x", 4)]}, "input 'x' has dims [4]"),
        ({"input": [sizes("z", -1, 4)]}, "input 'z' is not in the graph, which has x [B, T, 4]"),
        ({"input": [sizes("x", -1, 4, kind="TYPE_FP16")]}, "has TYPE_FP16, but the graph TYPE_FP32"),
        ({"output": [sizes("y", -1, -1)]}, "output 'y' has dims [-1, -1]"),
        ({"max_batch_size": 0, "dynamic_batching": None}, "input 'x' has dims [-1, 4], but the graph has x [B, T, 4]"),
    ],
)
def test_t8_names_types_and_dims(changes, said, tmp_path):
    report = checked(tmp_path, network(), stateless(**changes))
    assert codes(report) - {"T2"} == {"T8"}
    assert said in details(report)
    assert report.exit_code == 1


def test_t8_an_input_that_nobody_fills(tmp_path):
    report = checked(tmp_path, network(lengths="[B,1]"), stateless())
    assert codes(report) == {"T8"}
    assert "the graph's input lengths [B, 1] is not listed" in details(report)


def test_t8_a_size_that_is_fixed_for_an_input_is_a_warning(tmp_path):
    """Triton loads that, and refuses every other size; of an output it wants just what the graph has."""
    report = checked(tmp_path, network(), stateless(input=[sizes("x", 20, INPUT_SIZE)]))
    assert (codes(report), report.exit_code) == ({"T8"}, 0)
    assert "only the size 20 is taken" in details(report)


def test_t8_an_axis_0_that_is_fixed(tmp_path):
    model = network(batch_first=False, states=H_C, states_batch_first=False)
    lists = {
        "input": [sizes("x", -1, 4), *(sizes(name, -1, 8) for name in H_C[:2])],
        "output": [sizes("y", -1, 8), *(sizes(name, -1, 8) for name in H_C[2:])],
    }
    assert codes(checked(tmp_path / "a", model, stateless(**lists))) == {"T8"}
    assert codes(checked(tmp_path / "b", model, {"backend": "onnxruntime", "max_batch_size": 8})) == {"T8"}


def test_t9_a_state_that_is_listed_as_an_input(tmp_path):
    config = streaming(input=[sizes("x", -1, INPUT_SIZE), sizes("h_in", 1, 8)])
    assert codes(checked(tmp_path, network(states=H_C), config)) == {"T9"}


@pytest.mark.parametrize(
    ("config", "file", "said"),
    [
        (
            stateless(backend=None),
            "lstm.onnx",
            "nothing says which backend runs lstm: the first of its folders has no model.onnx",
        ),
        (None, "lstm.onnx", "nothing says which backend runs lstm: "),
        (stateless(name="another"), "model.onnx", "has the name 'another', but its folder is 'lstm'"),
        (stateless(default_model_filename="lstm.onnx"), "model.onnx", "lstm/1 has no lstm.onnx"),
    ],
)
def test_t10_what_is_not_found(config, file, said, tmp_path):
    folder = write(tmp_path / "repository", network(), config, file=file)
    report = check_repository(folder)
    assert codes(report) == {"T10"}
    assert said in details(report)


def test_t10_no_version(tmp_path):
    folder = write(tmp_path / "repository", None, stateless())
    (folder / "lstm" / "1").rmdir()
    assert "lstm has no version folder, such as lstm/1" in details(check_repository(folder))


@pytest.mark.parametrize("steps", [3, 20])
def test_t12_a_length_that_is_a_constant_of_the_graph(steps, tmp_path):
    report = checked(tmp_path, network(traced_steps=steps), stateless())
    assert codes(report) == {"T12"}
    assert f"it runs at x [5, {steps}, 4] and refuses x [" in details(report)


def test_t12_a_file_that_does_not_run_is_not_proved(tmp_path):
    model = network(batch_first=False)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Nothing", "nobody"
    model.opset_import.add(domain="nobody", version=1)
    report = checked(tmp_path, model, stateless(**WHOLE, output=[sizes("y", -1, -1, 8)]))
    assert (codes(report), report.exit_code) == ({"T12"}, 0)
    assert "onnxruntime-cpu REFUSED" in details(report)


def test_t13_without_a_release_it_says_which_load_it(tmp_path):
    assert "Triton 25.10 and newer load that" in details(checked(tmp_path / "a", network(opset=23), stateless()))
    newest = checked(tmp_path / "b", network(opset=28), stateless())
    assert "T13" in codes(newest)


def test_our_own_model_py_is_known(tmp_path):
    """It runs the file beside it, which is what is proved then."""
    code = OUR_CODE.read_bytes()
    for first, expected in ((True, set()), (False, {"T2"})):
        folder = write(tmp_path / str(first), network(batch_first=first), stateless(backend="python"))
        (folder / "lstm" / "1" / "model.py").write_bytes(code)
        assert codes(check_repository(folder)) == expected
        (folder / "lstm" / "1" / "model.py").write_bytes(code + b"\n")
        (row,) = (row for row in check_repository(folder).results if row.code)
        assert "nothing of a repository is executed" in row.detail


def test_a_report_is_written_and_read_back(tmp_path):
    PAIRS["T4"].wrong(tmp_path / "repository")
    report = check_repository(tmp_path / "repository")
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report
