"""Real servers, proved and caught: the page docs/servers.md, measured here and now.

    python scripts/servers.py -o docs/servers.md
    python scripts/servers.py --check docs/servers.md

``--check`` starts no server: it makes again what needs none, and exits with 1 where the page says something else.
The first needs the servers and the client: ``rnn-export runtimes install triton mlserver open-inference``.
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
from servers_page import (
    PROBED,
    URLS,
    WHOLE_PATH,
    Linted,
    commands,
    differences,
    introduction,
    likes,
    lint,
    right_heading,
    right_words,
    rules,
    said,
    targets,
    whole_time,
    wrong_row,
    wrong_words,
)
from wrong.servers import SERVERS, write_wrong

from rnn_export.bundle import Bundle
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.live_server.probe_table import print_probe
from rnn_export.live_server.probing import probe
from rnn_export.machine import this_environment
from rnn_export.pipeline import export
from rnn_export.report import Report
from rnn_export.runtimes import RUNTIMES
from rnn_export.server import Running, run_server
from rnn_export.shipping import Order, ship
from rnn_export.text_file import check_place, write_text

NEEDED = ("triton", "mlserver", "open-inference")
CHECKPOINT = Path(__file__).parent.parent / "models" / "digits-rows.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-o", "--output", type=Path, help="the page to write")
    action.add_argument("--check", type=Path, help="the page to compare with")
    parser.add_argument("--load", type=float, default=10.0, help="seconds of load at every endpoint")
    options = parser.parse_args(arguments)
    if options.check is not None:
        return check(options.check)
    if missing := [name for name in NEEDED if interpreter_of(RUNTIMES.get(name)) is None]:
        print(f"{missing[0]} is not installed: {how_to_install(RUNTIMES.get(missing[0]))}", file=sys.stderr)
        return 2
    check_place(options.output)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            *whole_path(Path(scratch), options.load),
            *proved(Path(scratch), options.load),
            *caught(Path(scratch)),
        ]
    head = [*introduction(), machine_line(time.monotonic() - started)]
    write_text(options.output, "\n".join([*head, *targets(), *parts, *rules()]) + "\n")
    return 0


def check(page: Path) -> int:
    """1 where the page is not what would be written now, apart from what a server says."""
    found = differences(page.read_text(), lint())
    for line in found:
        print(line)
    print(f"{page}: {len(found)} lines differ" if found else f"{page} is fresh")
    return 1 if found else 0


def machine_line(seconds: float) -> str:
    machine = this_environment(1)
    return f"{machine.cpu}, {machine.cores} cores, {machine.python}; it took {seconds / 60:.0f} minutes."


def whole_path(scratch: Path, load: float) -> Iterator[str]:
    """Checkpoint to probed server, as a user types it, timed."""
    folder = scratch / "path"
    folder.mkdir()
    (folder / CHECKPOINT.name).write_bytes(CHECKPOINT.read_bytes())
    yield from ("", WHOLE_PATH, "", "```console")
    whole = 0.0
    *first, serve, probed = commands(load)
    for words in first:
        seconds, told = _typed(words, folder)
        whole += seconds
        yield from (f"$ rnn-export {words}", *told[-1:], f"[{seconds:.1f} s]")
    with _running(folder / "bundle") as (server, ready):
        yield from (f"$ rnn-export {serve}", f"ready [{ready:.1f} s]")
        own = (server.url, server.grpc_url)
        seconds, told = _typed(commands(load, own)[-1], folder)
    text = "\n".join(told)
    for mine, shown in zip(own, URLS, strict=True):
        text = text.replace(mine, shown)
    yield from (f"$ rnn-export {probed}", text, f"[{seconds:.1f} s]", "```")
    yield from whole_time(whole + ready + seconds, load)


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
    yield from right_words(load)
    ready: list[float] = []
    for number, (source, target, mode, options) in enumerate(PROBED):
        bundle = _bundle(scratch / f"right-{number}", source, Order(target, mode=mode), options)
        with _running(bundle.path) as (server, seconds):
            report = probe([server.url, server.grpc_url], bundle.facts.name, bundle.path, seconds=load)
        ready.append(seconds)
        yield from ("", right_heading(source, target, mode, options), "", "```text", *_table(report), "```")
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
    yield from wrong_words()
    linted = lint()
    for code, like in likes():
        meaning, found = (like[1].meaning, _probed(like[0], scratch)) if like else ("", "")
        yield wrong_row(code, linted.get(code, Linted("", "")), meaning, found)


def _probed(name: str, scratch: Path) -> str:
    wrong = SERVERS[name]
    folder = scratch / name.replace(" ", "-")
    bundle = _bundle(folder, "rnn:3,8", Order("triton-python", mode=wrong.mode), {})
    write_wrong(wrong, bundle, folder / "repository")
    with _running(folder / "repository") as (server, _):
        report = probe([server.grpc_url], bundle.facts.name, bundle.path, seconds=1, clients=32)
    return said(report)


if __name__ == "__main__":
    sys.exit(main())
