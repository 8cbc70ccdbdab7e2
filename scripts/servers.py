"""Real servers, proved and caught: the page docs/servers.md, measured here and now.

    python scripts/servers.py -o docs/servers.md

It needs the servers and the client: ``rnn-export runtimes install triton mlserver open-inference``.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.console import Console
from wrong.repositories import PAIRS, RELEASE
from wrong.servers import SERVERS, write_wrong

from rnn_export.bundle import Bundle
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.live_server.probe_table import print_probe
from rnn_export.live_server.probing import probe
from rnn_export.machine import this_environment
from rnn_export.pipeline import export
from rnn_export.report import Report
from rnn_export.repository.checking import check_repository
from rnn_export.rules import RULES
from rnn_export.runtimes import RUNTIMES
from rnn_export.server import Running, run_server
from rnn_export.shipping import Order, ship
from rnn_export.targets import TARGETS
from rnn_export.text_file import check_place, write_text

NEEDED = ("triton", "mlserver", "open-inference")
CHECKPOINT = Path(__file__).parent.parent / "models" / "digits-rows.safetensors"
PROBED = (  # what is shipped, for which server, in which mode
    ("rnn:8,64", "triton-python", "stateless", {}),
    ("rnn:8,64", "triton-python", "streaming", {}),
    ("rnn:8,64,layers=2", "triton-python", "streaming", {"lengths": True}),
    ("rnn:8,64,relu,layers=2,bidirectional", "triton-python", "stateless", {"form": "rnn"}),
    ("rnn:8,64", "mlserver", "stateless", {}),
    ("rnn:8,64", "mlserver", "client-state", {}),
)
PATH = (
    "export digits-rows.safetensors --head head -o digits",
    "verify digits --runtime onnxruntime-cpu",
    "ship digits --target triton-python -o bundle",
    "probe {http} {grpc} --artifact bundle",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page to write")
    parser.add_argument("--load", type=float, default=10.0, help="seconds of load at every endpoint")
    options = parser.parse_args(arguments)
    if missing := [name for name in NEEDED if interpreter_of(RUNTIMES.get(name)) is None]:
        print(f"{missing[0]} is not installed: {how_to_install(RUNTIMES.get(missing[0]))}", file=sys.stderr)
        return 2
    check_place(options.output)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        parts = [*whole_path(Path(scratch)), *proved(Path(scratch), options.load), *caught(Path(scratch))]
    head = introduction(time.monotonic() - started)
    write_text(options.output, "\n".join([*head, *targets(), *parts, *rules()]) + "\n")
    return 0


def introduction(seconds: float) -> list[str]:
    machine = this_environment(1)
    return [
        "# Servers",
        "",
        "Made by `python scripts/servers.py -o docs/servers.md` with real servers on 127.0.0.1: the tritonserver that",
        "nvidia-pytriton carries (python backend), and MLServer. The clients are threads of one process beside the",
        "server, so the load runs say what two shared processors do, and not what a server can.",
        "",
        f"{machine.cpu}, {machine.cores} cores, {machine.python}; it took {seconds / 60:.0f} minutes.",
    ]


def targets() -> list[str]:
    """The layouts, out of their registry."""
    lines = [
        "",
        "## Targets",
        "",
        "| target | for | engine that has to pass | state | to run it |",
        "|---|---|---|---|---|",
    ]
    for target in TARGETS:
        state = "server or client" if target.holds_state else "client"
        lines.append(f"| `{target.name}` | {target.summary} | {target.engine} | {state} | {target.serve} |")
    return lines


def whole_path(scratch: Path) -> Iterator[str]:
    """Checkpoint to probed server, as a user types it, timed."""
    folder = scratch / "path"
    folder.mkdir()
    (folder / CHECKPOINT.name).write_bytes(CHECKPOINT.read_bytes())
    yield from ("", "## The whole path, timed", "", "```console")
    whole = 0.0
    for words in PATH[:3]:
        seconds, said = _typed(words, folder)
        whole += seconds
        yield from (f"$ rnn-export {words}", *said[-1:], f"[{seconds:.1f} s]")
    with _running(folder / "bundle") as (server, ready):
        yield from ("$ rnn-export serve bundle &", f"ready [{ready:.1f} s]")
        words = PATH[3].format(http=server.url, grpc=server.grpc_url)
        seconds, said = _typed(words, folder)
    shown = PATH[3].format(http="http://127.0.0.1:8000", grpc="grpc://127.0.0.1:8001")
    ports = {server.url: "http://127.0.0.1:8000", server.grpc_url: "grpc://127.0.0.1:8001"}
    text = "\n".join(said)
    for mine, usual in ports.items():
        text = text.replace(mine, usual)
    yield from (f"$ rnn-export {shown}", text, f"[{seconds:.1f} s]", "```")
    yield from ("", f"In all {whole + ready + seconds:.0f} s, of which 15 s are the load runs at three endpoints.")


def _typed(words: str, folder: Path) -> tuple[float, list[str]]:
    line = [sys.executable, "-m", "rnn_export", *words.split()]
    begun = time.monotonic()
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"rnn-export {words}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - begun, [text.rstrip() for text in done.stdout.splitlines()]


@contextmanager
def _running(folder: Path) -> Iterator[tuple[Running, float]]:
    """A server on free ports, and the seconds until it was ready."""
    begun = time.monotonic()
    with run_server(folder, http_port=0, grpc_port=0) as server:
        yield server, time.monotonic() - begun


def proved(scratch: Path, load: float) -> Iterator[str]:
    """The probe of right bundles."""
    yield from ("", "## Right servers", "", f"Every endpoint has 64 clients for {load:g} s.")
    ready: list[float] = []
    for number, (source, target, mode, options) in enumerate(PROBED):
        bundle = _bundle(scratch / f"right-{number}", source, Order(target, mode=mode), options)
        with _running(bundle.path) as (server, seconds):
            report = probe([server.url, server.grpc_url], bundle.facts.name, bundle.path, seconds=load)
        ready.append(seconds)
        extra = [name if value is True else f"{name} {value}" for name, value in options.items()]
        how = ", ".join([mode, *extra])
        yield from ("", f"### {source} on {target}, {how}", "", "```text", *_table(report), "```")
    yield from ("", f"The servers were ready after {median(ready):.1f} s (median).")


def _bundle(folder: Path, source: str, order: Order, options: dict[str, object]) -> Bundle:
    artifact = export(source, folder / "net", **options)  # type: ignore[arg-type]
    return ship(artifact.path, folder / "bundle", order, unverified=True)


def _table(report: Report) -> list[str]:
    """As the command prints it, without the address, which is another each time."""
    text = io.StringIO()
    print_probe(report, Console(file=text, width=140, color_system=None, highlight=False, soft_wrap=True))
    return [line.rstrip() for line in text.getvalue().splitlines()[1:]]


def caught(scratch: Path) -> Iterator[str]:
    """Each deliberately wrong repository, and who found it."""
    yield from ("", "## Wrong ones, and who catches them", "")
    yield "The linter reads a repository for the ONNX Runtime backend; its twin without the mistake passes. The probe"
    yield "asks a server that runs the like in the python backend, which has no implicit state: T5 is the linter's."
    yield ""
    yield "| | `ship --check` says | its twin | the like of it, served with HTTP 200 | `probe` says |"
    yield "|---|---|---|---|---|"
    likes = {server.rule: (name, server) for name, server in SERVERS.items()}
    for code in (*PAIRS, ""):
        linted, twin = ("", "") if not code else _linted(code, scratch)
        meaning, found = "", ""
        if code in likes:
            name, server = likes[code]
            meaning, found = server.meaning, _probed(name, scratch)
        yield f"| {code or '-'} | {linted} | {twin} | {meaning} | {found} |"


def _linted(code: str, scratch: Path) -> tuple[str, str]:
    wrong, right = scratch / f"{code}-wrong", scratch / f"{code}-right"
    PAIRS[code].wrong(wrong)
    PAIRS[code].right(right)
    release = RELEASE if code == "T13" else None  # which is about one release's ONNX Runtime
    return _said(check_repository(wrong, release=release)), _said(check_repository(right, release=release))


def _said(report: Report) -> str:
    codes = sorted({f"{row.status.value} {row.code}" for row in report.results if row.code})
    return ", ".join(codes) or "nothing"


def _probed(name: str, scratch: Path) -> str:
    wrong = SERVERS[name]
    folder = scratch / name.replace(" ", "-")
    bundle = _bundle(folder, "rnn:3,8", Order("triton-python", mode=wrong.mode), {})
    write_wrong(wrong, bundle, folder / "repository")
    with _running(folder / "repository") as (server, _):
        report = probe([server.grpc_url], bundle.facts.name, bundle.path, seconds=1, clients=32)
    return _said(report)


def rules() -> list[str]:
    """What each rule means, out of the registry."""
    lines = [
        "",
        "## The rules",
        "",
        "`rnn-export explain T4` says what to do.",
        "",
        "| code | what it finds |",
        "|---|---|",
    ]
    return [*lines, *(f"| {rule.name} | {rule.meaning} |" for rule in RULES.in_order())]


if __name__ == "__main__":
    sys.exit(main())
