"""The wheel works outside the repository: the canary and everything else that it needs is in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_exports_and_verifies_where_there_is_no_repository(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    installed = tmp_path / "site"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(installed)
    command = [sys.executable, "-m", "rnn_export"]
    environment = {"PYTHONPATH": str(installed), "PATH": "", "HOME": str(tmp_path)}
    for words in (
        ["export", "rnn:4,8,relu", "-o", "out"],
        ["verify", "out", "--runtime", "onnxruntime-cpu", "--report", "page.html"],
        ["demo"],
    ):
        done = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    where = [sys.executable, "-c", "import rnn_export; print(rnn_export.__file__)"]
    used = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(used.strip()).is_relative_to(installed)
