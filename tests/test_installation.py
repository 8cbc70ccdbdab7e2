"""Half an installation is none, what died is cleared away, and what is broken is made anew."""

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rnn_export import installation
from rnn_export.environments import environment_of, installed_version, interpreter_of
from rnn_export.errors import InstallationError, UsageError
from rnn_export.installation import install
from rnn_export.runtimes import Runtime
from tests.subjects import fake


def apart(*requires: str, runtime: Runtime | None = None) -> Runtime:
    """A runtime with an environment of its own; it would compute the canary if it is none of the broken fakes."""
    chosen = runtime or fake("answers", ANSWER="honest")
    return replace(chosen, name="apart", requires=requires or ("thing==1.0",), own_environment=True)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("RNN_EXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def furnish(folder: Path, *, works: bool = True) -> None:
    """Put into an environment's place a Python that runs, this one, or a file that none can run."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n' if works else "no program")
    python.chmod(0o755 if works else 0o644)


@pytest.fixture
def made(monkeypatch) -> list[Path]:
    """The environments that were made, without pip: furnished at once."""
    folders: list[Path] = []

    def create(place, **_):
        folders.append(Path(place))
        furnish(Path(place))

    monkeypatch.setattr(installation.venv, "create", create)
    monkeypatch.setattr(installation.subprocess, "run", lambda *_, **__: None)
    return folders


def test_what_lives_beside_us_is_refused_with_pips_command():
    with pytest.raises(UsageError, match="pip install torch safetensors"):
        install(replace(apart(), requires=("torch", "safetensors"), own_environment=False))


def test_it_is_made_beside_its_place_and_renamed(made, cache):
    runtime = apart()
    assert install(runtime) == environment_of(runtime)
    assert made == [environment_of(runtime).with_name(f"{environment_of(runtime).name}.partial-{os.getpid()}")]
    assert list((cache / "environments").iterdir()) == [environment_of(runtime)]


class TestWhatIsThere:
    def test_what_works_is_left_as_it_is(self, made):
        runtime = apart()
        furnish(environment_of(runtime))
        assert install(runtime) == environment_of(runtime)
        assert made == []

    def test_what_only_lacks_its_device_is_left_as_it_is(self, made):
        runtime = apart(runtime=fake("lacks", LACKS="a device"))
        furnish(environment_of(runtime))
        install(runtime)
        assert made == []

    @pytest.mark.parametrize("way", ["a crash", "a little wrong"])
    def test_a_package_that_cannot_compute_the_canary_is_installed_anew(self, made, way):
        runtime = apart(runtime=fake("broken", BROKEN=way))
        furnish(environment_of(runtime))
        (environment_of(runtime) / "old").touch()
        install(runtime)
        assert len(made) == 1
        assert not (environment_of(runtime) / "old").exists()

    def test_a_python_that_does_not_start_is_made_anew(self, made):
        runtime = apart()
        furnish(environment_of(runtime), works=False)
        install(runtime)
        assert len(made) == 1
        assert "exec" in interpreter_of(runtime).read_text()

    def test_a_python_that_is_gone_is_made_anew(self, made):
        runtime = apart()
        furnish(environment_of(runtime))
        python = environment_of(runtime) / "bin" / "python"
        python.unlink()
        python.symlink_to("nowhere")
        install(runtime)
        assert len(made) == 1


class TestLeftovers:
    def test_those_of_dead_processes_are_removed_and_those_of_living_ones_stay(self, made, cache):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        dead, alive, other = (
            cache / "environments" / name
            for name in (f"a-1.partial-{gone.pid}", f"b-1.partial-{os.getppid()}", "c-1.partial-note")
        )
        for folder in (dead, alive, other):
            (folder / "lib").mkdir(parents=True)
        install(apart())
        assert [folder.exists() for folder in (dead, alive, other)] == [False, True, True]

    @pytest.mark.parametrize(
        ("accident", "raised"),
        [
            (subprocess.CalledProcessError(1, ["pip"]), InstallationError),
            (OSError(28, "No space left on device"), InstallationError),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
        ids=["pip fails", "disk full", "interrupted"],
    )
    def test_an_installation_that_breaks_off_leaves_nothing(self, made, monkeypatch, cache, accident, raised):
        def break_off(*_, **__):
            raise accident

        monkeypatch.setattr(installation.subprocess, "run", break_off)
        runtime = apart()
        with pytest.raises(raised):
            install(runtime)
        assert len(made) == 1
        assert interpreter_of(runtime) is None
        assert list((cache / "environments").iterdir()) == []

    def test_a_folder_that_cannot_be_made_is_an_installation_error(self, cache):
        cache.write_text("a file in the way")
        with pytest.raises(InstallationError, match="apart could not be installed"):
            install(apart())


@pytest.mark.slow
class TestPip:
    def test_a_real_installation_can_be_found_and_run_and_pip_is_quiet(self, monkeypatch, tmp_path, capfd):
        """From a wheel of one line in a folder, without the network."""
        wheel = tmp_path / "wheels" / "tiny_thing-1.5-py3-none-any.whl"
        wheel.parent.mkdir()
        info = "tiny_thing-1.5.dist-info"
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("tiny_thing.py", "SIZE = 'tiny'\n")
            file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.5\n")
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/RECORD", "")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
        runtime = apart("tiny-thing==1.5")
        assert install(runtime) == environment_of(runtime)
        assert capfd.readouterr() == ("", "")
        assert installed_version(runtime) == "1.5"
        python = interpreter_of(runtime)
        assert python is not None
        line = [str(python), "-c", "import tiny_thing; print(tiny_thing.SIZE)"]
        assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "tiny\n"

    def test_pins_that_do_not_exist_are_an_installation_error_with_pips_own_words(self, monkeypatch, capfd, cache):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(InstallationError, match="apart could not be installed"):
            install(apart("package-that-nobody-has==1.0"))
        out, err = capfd.readouterr()
        assert out == ""
        assert "package-that-nobody-has" in err
        assert list((cache / "environments").iterdir()) == []


def test_npm_comes_after_pip_and_runs_no_script_of_a_package(made, monkeypatch):
    lines: list[list[str]] = []
    monkeypatch.setattr(installation.subprocess, "run", lambda line, **_: lines.append(line))
    install(replace(apart("node==24.0", "numpy==2.4.6"), npm=("thing@1.30.0",)))
    pip, npm = lines
    assert pip[-3:] == ["install", "node==24.0", "numpy==2.4.6"]
    assert (npm[-1], "--ignore-scripts" in npm) == ("thing@1.30.0", True)
