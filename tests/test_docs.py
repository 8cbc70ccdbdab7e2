"""The documentation is true: its code runs, and its generated pages are fresh."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_export.runtimes._launching import free_ports
from tests.servers import need

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_the_python_of_the_readme_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    frozen, _, api = blocks("python")
    done = run(frozen, tmp_path)
    assert done.returncode == 0, done.stderr
    said = re.search(r"The last line is `(.*?)`", README)
    assert said is not None
    assert done.stdout.splitlines()[-1] == said[1]
    done = run(api, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    commands = next(block for block in blocks("bash") if "rnn-export export" in block).splitlines()
    source = ROOT / "models" / "digits-rows.safetensors"
    (tmp_path / "model.safetensors").write_bytes(source.read_bytes())
    for command in commands:
        words = command.split()
        assert words[0] == "rnn-export"
        done = subprocess.run(
            [sys.executable, "-m", "rnn_export", *words[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_whole_model_of_the_readme_is_exported_and_verified(tmp_path: Path) -> None:
    (tmp_path / "tagger.py").write_text(next(block for block in blocks("python") if "# tagger.py" in block))
    commands = next(block for block in blocks("bash") if "--trust-code" in block).splitlines()
    for words in (["tagger.py"], *(["-m", *command.replace("-", "_", 1).split()] for command in commands)):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_path_to_a_server_of_the_readme_ends_with_a_proved_server(tmp_path: Path) -> None:
    need("triton", "open-inference")
    (tmp_path / "models").symlink_to(ROOT / "models")
    http, grpc = free_ports(2)
    block = next(block for block in blocks("bash") if "rnn-export serve" in block)
    commands = [line.partition("  #")[0].split()[1:] for line in block.splitlines()]
    assert [words[0] for words in commands] == ["runtimes", "export", "verify", "ship", "serve", "probe"]
    ports = {"http://127.0.0.1:8000": f"http://127.0.0.1:{http}", "grpc://127.0.0.1:8001": f"grpc://127.0.0.1:{grpc}"}
    server, said = None, ""
    try:
        for words in commands:
            line = [sys.executable, "-m", "rnn_export", *(ports.get(word, word) for word in words)]
            if words[-1] == "&":
                options = ["--http-port", str(http), "--grpc-port", str(grpc)]
                server = subprocess.Popen([*line[:-1], *options], cwd=tmp_path, stdout=subprocess.DEVNULL)
                continue
            done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            said = done.stdout
    finally:
        if server is not None:
            server.terminate()
            assert server.wait(30) == 0
    shown = next(block for block in blocks("console") if "metadata = manifest" in block)
    checks = [line.split("  ")[0] for line in shown.splitlines()]
    assert [check for check in checks if check not in said] == []
    assert "PASSED on http-binary, http-json, grpc" in said


def test_no_page_tells_a_folder_of_the_machine_it_was_made_on() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.jsonl")]
    assert len(pages) > 10
    for page in pages:
        assert not re.search(r"/(root|home|tmp|work)/", page.read_text()), page.name


def test_generated_pages_are_fresh_and_links_lead_somewhere() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_every_form_and_status() -> None:
    from rnn_export.forms import FORMS
    from rnn_export.result import Status

    for word in [*FORMS.names(), *(status.value for status in Status)]:
        assert re.search(rf"\b{word}\b", README), word


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = {path.stem for path in (ROOT / "rnn_export").glob("*.py") if not path.stem.startswith("__")}
    folders = {path.name + "/" for path in (ROOT / "rnn_export").iterdir() if (path / "__init__.py").exists()}
    assert [name for name in sorted(modules | folders) if f"`{name}`" not in text] == []
