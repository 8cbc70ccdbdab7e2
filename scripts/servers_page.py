"""What docs/servers.md says without a server: its words and tables, what the linter finds, and whether it is fresh."""

import difflib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from wrong.repositories import PAIRS, RELEASE
from wrong.servers import SERVERS, WrongServer

from rnn_export.report import Report
from rnn_export.repository.checking import check_repository
from rnn_export.rules import RULES
from rnn_export.targets import TARGETS

WHOLE_PATH, RIGHT, WRONG = "## The whole path, timed", "## Right servers", "## Wrong ones, and who catches them"
URLS = ("http://127.0.0.1:8000", "grpc://127.0.0.1:8001")  # as the page shows them
ENDPOINTS = 3  # of the server of that path: binary and JSON over HTTP, and gRPC
PROBED = (  # what is shipped, for which server, in which mode
    ("rnn:8,64", "triton-python", "stateless", {}),
    ("rnn:8,64", "triton-python", "streaming", {}),
    ("rnn:8,64,layers=2", "triton-python", "streaming", {"lengths": True}),
    ("rnn:8,64,relu,layers=2,bidirectional", "triton-python", "stateless", {"form": "rnn"}),
    ("rnn:8,64", "mlserver", "stateless", {}),
    ("rnn:8,64", "mlserver", "client-state", {}),
)
_THREADS = 2  # each waits for a child process about as long as it computes


class Linted(NamedTuple):
    """What the linter says of a wrong repository, and of its twin without the mistake."""

    wrong: str
    right: str


def introduction() -> list[str]:
    return [
        "# Servers",
        "",
        "Made by `python scripts/servers.py -o docs/servers.md` with real servers on 127.0.0.1: the tritonserver that",
        "nvidia-pytriton carries (python backend), and MLServer. The clients are threads of one process beside the",
        "server, so the load runs say what two shared processors do, and not what a server can.",
        "",
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


def commands(load: float, urls: Sequence[str] = URLS) -> list[str]:
    """The whole path, as a user types it."""
    return [
        "export digits-rows.safetensors --head head -o digits",
        "verify digits --runtime onnxruntime-cpu",
        "ship digits --target triton-python -o bundle",
        "serve bundle &",
        f"probe {' '.join(urls)} --artifact bundle --load {load:g}",
    ]


def whole_time(seconds: float, load: float) -> list[str]:
    return ["", f"In all {seconds:.0f} s, of which {ENDPOINTS * load:g} s are load runs, at {ENDPOINTS} endpoints."]


def right_words(load: float) -> list[str]:
    return ["", RIGHT, "", f"Every endpoint has 64 clients for {load:g} s."]


def right_heading(source: str, target: str, mode: str, options: Mapping[str, object]) -> str:
    extra = [name if value is True else f"{name} {value}" for name, value in options.items()]
    return f"### {source} on {target}, {', '.join([mode, *extra])}"


def wrong_words() -> list[str]:
    return [
        *("", WRONG, ""),
        "The linter reads a repository for the ONNX Runtime backend; its twin without the mistake passes. The probe",
        "asks a server that runs the like in the python backend, which has no implicit state: T5 is the linter's.",
        "",
        "| | `ship --check` says | its twin | the like of it, served with HTTP 200 | `probe` says |",
        "|---|---|---|---|---|",
    ]


def likes() -> list[tuple[str, tuple[str, WrongServer] | None]]:
    """Every wrong repository's code with the wrong server that is like it, and the wrong servers that are like none."""
    named = {server.rule: (name, server) for name, server in SERVERS.items()}
    return [(code, named.get(code)) for code in (*PAIRS, *(code for code in named if code not in PAIRS))]


def wrong_row(code: str, linted: Linted, meaning: str, found: str) -> str:
    return f"| {code or '-'} | {linted.wrong} | {linted.right} | {meaning} | {found} |"


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


def lint() -> dict[str, Linted]:
    """Every wrong repository and its twin, checked here and now."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(PAIRS, pool.map(lambda code: _linted(code, Path(scratch)), PAIRS), strict=True))


def _linted(code: str, scratch: Path) -> Linted:
    wrong, right = scratch / f"{code}-wrong", scratch / f"{code}-right"
    PAIRS[code].wrong(wrong)
    PAIRS[code].right(right)
    if code != "T13":
        return Linted(said(check_repository(wrong)), said(check_repository(right)))
    found = (said(check_repository(folder, release=RELEASE)) for folder in (wrong, right))  # it is about one release
    return Linted(*(f"{words} for --triton-release {RELEASE}" for words in found))


def said(report: Report) -> str:
    """The codes of a report, for a cell."""
    codes = sorted({f"{row.status.value} {row.code}" for row in report.results if row.code})
    return ", ".join(codes) or "nothing"


def differences(page: str, linted: Mapping[str, Linted]) -> list[str]:
    """Lines of the page that are not what they would be now, as a diff; of what a server says, none."""
    load = re.search(r"^Every endpoint has \d+ clients for (\S+) s\.$", page, re.MULTILINE)
    now = _expected(float(load[1]) if load else 0, linted)
    return [line for line in difflib.ndiff(list(_unmeasured(page.splitlines())), now) if line[0] in "-+"]


def _expected(load: float, linted: Mapping[str, Linted]) -> list[str]:
    path = ["", WHOLE_PATH, "", *(f"$ rnn-export {words}" for words in commands(load)), *whole_time(0, load)]
    right = [*right_words(load), *(right_heading(*one) for one in PROBED)]
    rows = [
        wrong_row(code, linted.get(code, Linted("", "")), like[1].meaning if like else "", "") for code, like in likes()
    ]
    parts = [*introduction(), *targets(), *path, *right, *wrong_words(), *rows, *rules()]
    return list(_unmeasured(parts))


def _unmeasured(lines: Sequence[str]) -> Iterator[str]:
    """The lines of a page that need no server, and of the rows of the wrong ones the cells that need none."""
    part, table = "", False
    for line in filter(None, lines):
        part = line if line.startswith(("# ", "## ")) else part
        if part == WHOLE_PATH:
            kept = line.startswith(("## ", "$ ", "In all "))
        elif part == RIGHT:
            kept = line.startswith(("## ", "### ", "Every "))
        else:
            kept = not re.search(r"; it took \d+ minutes\.$", line)
        table = part == WRONG and (table or line.startswith("|---"))
        if kept and table and line.startswith("| "):
            yield line.rsplit(" | ", 1)[0]
        elif kept:
            yield re.sub(r"^In all \d+ s", "In all", line)
