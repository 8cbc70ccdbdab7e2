"""Where runtimes are looked for, and what is said where they are not."""

import json
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from rnn_export.environments import (
    cache_folder,
    clashes,
    environment_of,
    how_to_install,
    installed_version,
    interpreter_of,
)
from rnn_export.runtimes import RUNTIMES, Runtime
from tests.subjects import fake

BESIDE = replace(fake("answers", ANSWER="honest"), requires=("numpy",))


def apart(*requires: str, name: str = "apart") -> Runtime:
    return Runtime(name, "", requires, BESIDE.prepare, own_environment=True)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pretend_installed(runtime: Runtime, release: str) -> None:
    """What an installation leaves on disk, as far as it is looked at."""
    site = environment_of(runtime) / "lib" / "python3.11" / "site-packages"
    (site / f"{runtime.distribution.replace('-', '_')}-{release}.dist-info").mkdir(parents=True)
    (site / f"{runtime.distribution.replace('-', '_')}_extensions-9.9.dist-info").mkdir()
    (environment_of(runtime) / "bin").mkdir()
    (environment_of(runtime) / "bin" / "python").touch()


class TestPlaces:
    def test_the_cache_is_where_the_variables_say(self, monkeypatch, tmp_path):
        assert cache_folder() == tmp_path / "cache"
        monkeypatch.delenv("RNN_EXPORT_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "rnn-export"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "rnn-export"

    def test_runtimes_with_the_same_pins_share_an_environment_and_others_do_not(self):
        first, second = apart("thing==1.0", "numpy==2.4.6"), apart("thing==1.0", "numpy==2.4.6", name="other")
        assert environment_of(first) == environment_of(second)
        assert environment_of(first) != environment_of(apart("thing==1.1", "numpy==2.4.6"))
        assert environment_of(first) != environment_of(apart("thing==1.0"))
        scripted = [replace(first, npm=(package,)) for package in ("thing@1.0", "thing@1.1")]
        assert len({environment_of(runtime) for runtime in (first, *scripted)}) == 3

    def test_the_two_cuda_rows_share_theirs(self):
        assert environment_of(RUNTIMES.get("onnxruntime-cuda")) == environment_of(RUNTIMES.get("onnxruntime-cuda-tf32"))


class TestBeside:
    def test_what_can_be_imported_runs_in_this_python(self):
        assert interpreter_of(BESIDE) == Path(sys.executable)
        assert installed_version(BESIDE) == version("numpy")

    def test_one_missing_requirement_is_enough_to_be_absent(self):
        assert interpreter_of(replace(BESIDE, requires=("numpy", "package-that-nobody-has"))) is None

    def test_what_nobody_has_has_no_version(self):
        assert installed_version(replace(BESIDE, requires=("package-that-nobody-has",))) == ""

    def test_pip_is_what_installs_it(self):
        runtime = replace(BESIDE, requires=("torch", "safetensors"))
        assert how_to_install(runtime) == "pip install torch safetensors"


class TestApart:
    def test_it_is_absent_until_its_python_is_there(self):
        runtime = apart("thing[extra]==1.31.1", "numpy==2.4.6")
        assert (interpreter_of(runtime), installed_version(runtime)) == (None, "")
        pretend_installed(runtime, "1.31.1")
        assert interpreter_of(runtime) == environment_of(runtime) / "bin" / "python"
        assert installed_version(runtime) == "1.31.1"

    def test_a_name_with_a_dash_is_found_under_its_underscore(self):
        runtime = apart("onnx-thing[cuda,cudnn]==1.2")
        pretend_installed(runtime, "1.2")
        assert installed_version(runtime) == "1.2"

    def test_a_package_of_npm_says_its_version_itself(self):
        runtime = replace(apart("node==24.0", "numpy==2.4.6"), npm=("thing@1.30.0", "another@2.0"))
        assert (runtime.distribution, installed_version(runtime)) == ("thing", "")
        manifest = environment_of(runtime) / "node_modules" / "thing" / "package.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"name": "thing", "version": "1.30.0"}))
        assert installed_version(runtime) == "1.30.0"

    def test_our_own_command_is_what_installs_it(self):
        assert how_to_install(apart("thing==1.0")) == "rnn-export runtimes install apart"


class TestClashes:
    def test_one_package_of_onnx_runtime_is_no_clash(self):
        assert clashes() == []

    def test_two_of_them_overwrite_each_other(self, monkeypatch, tmp_path):
        info = tmp_path / "onnxruntime_gpu-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert clashes() == ["onnxruntime", "onnxruntime-gpu"]
