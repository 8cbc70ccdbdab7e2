"""``demo``, ``doctor``, ``list`` and ``runtimes``: they print what is, and end with 1 where something is wrong."""

import json
import re

import pytest

from rnn_export import diagnosis
from rnn_export.forms import FORMS
from rnn_export.runtimes import RUNTIMES
from rnn_export.spec import RNNSpec
from tests.subjects import fake


def test_list_forms_has_a_line_for_every_form(cli):
    found = cli("list", "forms")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert [line.split()[0] for line in lines] == FORMS.names()
    for line, form in zip(lines, FORMS, strict=True):
        assert form.summary in line
        assert f"opset {form.min_opset}+" in line


class TestRuntimes:
    def test_the_list_has_a_line_for_every_runtime_and_says_what_to_type(self, cli, monkeypatch, tmp_path):
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path))
        found = cli("runtimes", "list")
        assert (found.code, found.err) == (0, "")
        lines = {line.split()[0]: line for line in found.out.splitlines()[1:]}
        assert list(lines) == RUNTIMES.names()
        assert re.search(r"onnxruntime-cpu +\d+\.\d+\.\d+ .* installed", lines["onnxruntime-cpu"])
        assert lines["onnxruntime-cuda"].rstrip().endswith("rnn-export runtimes install onnxruntime-cuda")
        assert all(runtime.summary in lines[runtime.name] for runtime in RUNTIMES)

    def test_listing_starts_no_runtime(self, cli, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
        assert cli("runtimes", "list").code == 0

    def test_an_installation_says_where_it_is(self, cli, monkeypatch, tmp_path):
        monkeypatch.setattr("rnn_export.environments.install", lambda runtime: tmp_path / runtime.name)
        found = cli("runtimes", "install", "onnxruntime-cuda")
        assert (found.code, found.out) == (0, f"onnxruntime-cuda: {tmp_path}/onnxruntime-cuda\n")
        assert "installing onnxruntime-gpu[cuda,cudnn]==" in found.err

    def test_one_that_fails_ends_with_4(self, cli, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "file"))
        found = cli("runtimes", "install", "onnxruntime-cuda")
        assert (found.code, found.out) == (4, "")
        assert "onnxruntime-cuda could not be installed" in found.err


class TestDoctor:
    @pytest.fixture
    def runtimes(self, monkeypatch):
        def use(*names_or_fakes):
            chosen = [RUNTIMES.get(one) if isinstance(one, str) else one for one in names_or_fakes]
            monkeypatch.setattr(diagnosis, "RUNTIMES", chosen)

        return use

    def test_a_healthy_machine_ends_with_0_and_every_line_has_its_mark(self, cli, runtimes):
        runtimes("onnxruntime-cpu", "onnxruntime-cuda")
        found = cli("doctor")
        assert (found.code, found.err) == (0, "")
        assert {line[:3].strip() for line in found.out.splitlines()} == {"ok", "--"}
        assert "computes the canary" in found.out

    def test_json_is_a_list_of_findings(self, cli, runtimes):
        runtimes("onnxruntime-cpu")
        found = json.loads(cli("doctor", "--format", "json").out)
        assert all(list(finding) == ["name", "value", "ok", "remedy"] for finding in found)
        named = {finding["name"]: finding for finding in found}
        assert set(named) >= {"python", "machine", "torch", "onnx", "packages", "cache", "onnxruntime-cpu"}
        assert named["onnxruntime-cpu"]["ok"] is True

    @pytest.mark.parametrize(
        ("runtime", "words"),
        [
            (fake("broken", BROKEN="a little wrong"), "BROKEN: computes the canary, one small product, wrongly"),
            (fake("broken", BROKEN="a crash"), "BROKEN: fails the canary too: the process ended with SIGABRT"),
            (fake("deaths", DEATH="SIGSEGV", STAGE="FIND"), "CRASHED: the process ended with SIGSEGV"),
        ],
        ids=["wrong", "crash", "crash at import"],
    )
    def test_a_broken_runtime_is_bad_and_ends_with_1(self, cli, runtimes, runtime, words):
        runtimes(runtime)
        found = cli("doctor")
        assert found.code == 1
        line = next(line for line in found.out.splitlines() if runtime.name in line)
        assert line.startswith("BAD")
        assert words in line

    def test_an_absent_runtime_is_no_fault(self, cli, runtimes):
        runtimes(fake("lacks", LACKS="a device"))
        found = cli("doctor")
        assert found.code == 0
        assert "this machine has no abacus" in found.out

    def test_brackets_in_a_runtimes_words_are_shown_and_not_obeyed(self, cli, monkeypatch):
        finding = diagnosis.Finding("runtime", "REFUSED: [cuda] cannot open [/lib/x.so]", False, "pip install a[cuda]")
        monkeypatch.setattr(diagnosis, "diagnose", lambda: [finding])
        found = cli("doctor")
        assert "[cuda] cannot open [/lib/x.so]" in found.out
        assert "pip install a[cuda]" in found.out

    def test_packages_that_overwrite_each_other_are_bad_and_the_remedy_is_said(self, cli, runtimes, monkeypatch):
        runtimes()
        monkeypatch.setattr(diagnosis, "clashes", lambda: ["onnxruntime", "onnxruntime-gpu"])
        found = cli("doctor")
        assert found.code == 1
        assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime" in found.out

    def test_no_path_of_this_machine_is_in_what_one_pastes_into_a_bug_report(self, cli, runtimes):
        from pathlib import Path

        runtimes("onnxruntime-cpu")
        text = cli("doctor", "--format", "json").out
        assert str(Path.home()) not in text
        assert str(Path(__file__).parent.parent.parent) not in text


class TestDemo:
    def test_every_way_computes_the_same_network(self, cli):
        found = cli("demo")
        assert found.code == 0
        assert f"{RNNSpec(4, 8, nonlinearity='relu')}, the weights:" in found.out
        for name in ("torch.nn.RNN", "two matrices", "single matrix", "ONNX file in onnxruntime-cpu"):
            assert re.search(rf"  {re.escape(name)} +residual [0-3]\.\d\d  PASS", found.out)
        assert re.search(r"weight_ih_l0 +\(8, 4\)", found.out)
        rows = re.findall(r"^    ([ \d.-]+)$", found.out, re.MULTILINE)
        values = [[float(number) for number in row.split()] for row in rows]
        assert all(len(row) == 8 for row in values)
        assert len(values) >= 4
        for row in values[1:]:
            assert row == pytest.approx(values[0], abs=2e-6)

    def test_it_is_the_same_every_time(self, cli):
        assert cli("demo").out == cli("demo").out
