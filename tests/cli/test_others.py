"""``demo``, ``doctor``, ``list`` and ``runtimes``: they print what is, and end with 1 where something is wrong."""

import json
import re

import pytest

from rnn_export import diagnosis
from rnn_export.errors import InstallationError
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
        found = cli("runtimes", "list", "--no-canary")
        assert (found.code, found.err) == (0, "")
        lines = {line.split()[0]: line.rstrip() for line in found.out.splitlines()[1:-1]}
        assert list(lines) == RUNTIMES.names()
        assert re.search(r"onnxruntime-cpu +\d+\.\d+\.\d+ .* installed$", lines["onnxruntime-cpu"])
        assert lines["onnxruntime-cuda"].endswith("missing    rnn-export runtimes install onnxruntime-cuda")
        assert all(runtime.summary in lines[runtime.name] for runtime in RUNTIMES)
        assert found.out.splitlines()[-1] == "What works is run by rnn-export verify DIR --runtime NAME"

    def test_those_installed_compute_the_canary_and_why_one_does_not_is_said(self, cli, monkeypatch):
        some = [RUNTIMES.get("onnxruntime-cpu"), fake("broken", BROKEN="a crash"), fake("lacks", LACKS="a device")]
        monkeypatch.setattr("rnn_export.inventory.RUNTIMES", some)
        found = cli("runtimes", "list")
        assert found.code == 0
        words = [line.split() for line in found.out.splitlines()]
        assert "works" in words[1]
        assert " ".join(words[2]).endswith("BROKEN pip install --force-reinstall onnxruntime")
        assert words[3][-2:] == ["no", "device"]
        assert "fake-broken: fails the canary too: the process ended with SIGABRT" in found.out
        assert "fake-lacks: this machine has no abacus" in found.out

    def test_a_list_without_the_canary_starts_no_runtime(self, cli, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
        assert cli("runtimes", "list", "--no-canary").code == 0

    def test_json_has_the_same_for_programs(self, cli, monkeypatch):
        monkeypatch.setattr("rnn_export.inventory.RUNTIMES", [RUNTIMES.get("onnxruntime-cpu")])
        (entry,) = json.loads(cli("runtimes", "list", "--format", "json").out)
        assert list(entry) == [
            *("name", "summary", "package", "device", "installed", "version", "state", "canary", "detail", "next")
        ]
        assert (entry["name"], entry["device"], entry["state"]) == ("onnxruntime-cpu", "CPU", "works")
        assert (entry["installed"], entry["canary"]) == (True, "PASS")


class TestInstalling:
    @pytest.fixture
    def asked(self, monkeypatch, tmp_path) -> list[str]:
        """What was to be installed; tract fails."""
        names: list[str] = []

        def install(runtime):
            names.append(runtime.name)
            if runtime.name == "tract":
                raise InstallationError("tract could not be installed: no space")
            return tmp_path / runtime.name

        monkeypatch.setattr("rnn_export.installation.install", install)
        return names

    def test_it_says_what_is_installed_how_far_it_is_and_where(self, cli, asked, tmp_path):
        found = cli("runtimes", "install", "openvino", "onnxruntime@1.24.1")
        assert found.code == 0
        assert found.out == f"openvino: {tmp_path}/openvino\nonnxruntime@1.24.1: {tmp_path}/onnxruntime@1.24.1\n"
        assert re.fullmatch(
            r"1/2 openvino: openvino==\S+, numpy==\S+\n1/2 openvino: ready after \d+ s\n"
            r"2/2 onnxruntime@1.24.1: onnxruntime==1.24.1\n2/2 onnxruntime@1.24.1: ready after \d+ s\n",
            found.err,
        )

    def test_it_goes_on_after_a_failure_and_ends_with_4_and_what_failed(self, cli, asked):
        found = cli("runtimes", "install", "tract", "iree")
        assert (found.code, asked) == (4, ["tract", "iree"])
        last = found.err.splitlines()[-1]
        assert last == "rnn-export: error: 1 of 2 failed: tract could not be installed: no space. The others are ready"

    def test_one_that_fails_alone_is_told_once(self, cli, asked):
        found = cli("runtimes", "install", "tract")
        assert (found.code, found.out) == (4, "")
        assert found.err.count("no space") == 1

    def test_all_are_those_apart_and_what_this_machine_has_no_device_for_is_left_out_in_words(
        self, cli, asked, monkeypatch
    ):
        lack = "no CUDA driver on this machine (libcuda.so.1)"
        monkeypatch.setattr(
            "rnn_export.inventory.lacking_device", lambda runtime: lack if runtime.device == "CUDA" else ""
        )
        found = cli("runtimes", "install", "--all")
        assert found.code == 4
        assert asked == [runtime.name for runtime in RUNTIMES if runtime.own_environment and runtime.device == "CPU"]
        assert f"onnxruntime-cuda: left out: {lack}; name it to install it all the same" in found.err

    @pytest.mark.parametrize("arguments", [(), ("--all", "openvino")], ids=["nothing", "both"])
    def test_names_or_all_but_not_neither_nor_both(self, cli, asked, arguments):
        found = cli("runtimes", "install", *arguments)
        assert (found.code, asked) == (2, [])
        assert "Name runtimes, or give --all" in found.err

    def test_an_unknown_name_is_said_before_anything_is_installed(self, cli, asked):
        found = cli("runtimes", "install", "openvino", "opnvino")
        assert (found.code, asked) == (2, [])
        assert "Did you mean 'openvino'?" in found.err

    def test_a_place_that_cannot_be_made_ends_with_4(self, cli, monkeypatch, tmp_path):
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
