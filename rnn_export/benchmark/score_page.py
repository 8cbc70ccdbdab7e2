"""A benchmark as Markdown that GitHub reads, for a pull request or the page of a project."""

from collections.abc import Iterator

from rnn_export.benchmark.score import Benchmark
from rnn_export.benchmark.score_table import HEADINGS, NUMBERS, cells, failures, fastest_line, headline, limit_line
from rnn_export.reports.markdown import plain
from rnn_export.result import Status


def render_markdown(benchmark: Benchmark) -> str:
    """The tables, what did not run, the limits, and the machine."""
    return "\n".join(_lines(benchmark)) + "\n"


def _lines(benchmark: Benchmark) -> Iterator[str]:
    for point in benchmark.points:
        yield f"### {plain(headline(point, benchmark.threads))}"
        yield ""
        yield f"| {' | '.join(HEADINGS)} |"
        yield f"|{'|'.join('---:' if heading in NUMBERS else '---' for heading in HEADINGS)}|"
        for row in point.rows:
            if row.status is Status.PASS:
                yield f"| {' | '.join(map(plain, cells(row)))} |"
        yield ""
        for status, words in failures(point):
            yield f"- **{status.value}** {plain(words)}"
        yield f"- {plain(limit_line(point))}"
        yield f"- {plain(fastest_line(point))}"
        yield ""
    machine = benchmark.environment
    said = [f"{name} {version}" for name, version in machine.packages.items()]
    said += [machine.python, machine.platform, f"{machine.cpu}, {machine.cores} cores, {machine.threads} used"]
    said += [f"{benchmark.rounds} rounds of {benchmark.seconds:g} s", benchmark.created]
    yield f"<sub>{' · '.join(map(plain, said))}</sub>"
