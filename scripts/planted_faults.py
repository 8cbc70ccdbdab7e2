"""Plant faults in exported networks and count who notices: the tester, tested.

    python scripts/planted_faults.py [--nets 16] [--every 2] [--correct 540] [--seed 0] [-o PAGE]

prints one table: for every kind of fault the share of its runs that is ACCEPTED by rnn-export's verdict, by
numpy.allclose (rtol = atol = 1e-5) and by torch's own ``torch.onnx.export(verify=True)``, all three on the same
answers; then what of the verdict noticed. Faults that have a size go from 0.1 down to one whose own residual,
without any rounding, is 8. The exit code is 1 where a fault was accepted or a correct run rejected.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from faults.correct import correct_trials
from faults.nets import nets
from faults.planting import GROUPS, fault_trials
from faults.sizes import SIZES
from faults.trials import Outcome, Trial

LAYOUT = "{:<46} {:>4}  {:>10} {:>8} {:>6}  {:>8} {:>6} {:>9}  {:>8}  {}"
HEADINGS = ("runs", "rnn-export", "allclose", "torch", "residual", "status", "read-back", "least q", "status words")


PAGE = """# Planted faults

Made by `python scripts/planted_faults.py -o docs/planted-faults.md`. Shares are of runs that are ACCEPTED: by the
verdict of rnn-export, by `numpy.allclose` with rtol = atol = 1e-5 against torch, and by torch's own `verify=True`.
The right columns say what of the verdict rejected them, and the smallest residual that did.

```text
{}```
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.output is None:
        return report(options)
    with redirect_stdout(StringIO()) as text:
        code = report(options)
    print(text.getvalue(), end="")
    options.output.write_text(PAGE.format(text.getvalue()))
    return code


def report(options: argparse.Namespace) -> int:
    """Plant, judge and print; 1 where a fault was accepted or a correct run rejected."""
    planted = _judged(_fault_trials(options.nets, options.every, options.seed))
    correct = _judged(correct_trials(options.correct, options.seed))
    kinds, networks = {outcome.kind for outcome in planted}, {outcome.net for outcome in planted}
    print(f"{len(kinds)} kinds of fault in {len(networks)} networks; the share of the runs that each accepts")
    print(LAYOUT.format("fault", *HEADINGS))
    _print_faults(planted)
    print("no fault, and the largest q:")
    _print_rows(correct)
    accepted = [outcome for outcome in planted if outcome.accepted]
    rejected = [outcome for outcome in correct if not outcome.accepted]
    for word, outcomes in (("ACCEPTED", accepted), ("REJECTED", rejected)):
        for outcome in outcomes:
            print(f"{word}: {outcome}")
    print(
        f"{len(planted)} faults planted, {len(planted) - len(accepted)} rejected; "
        f"{len(correct)} correct runs, {len(rejected)} rejected"
    )
    return 1 if accepted or rejected else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=16, metavar="N", help="networks to plant faults in")
    parser.add_argument("--every", type=int, default=2, metavar="N", help="plant one in N kinds in each network")
    parser.add_argument("--correct", type=int, default=540, metavar="N", help="correct runs")
    parser.add_argument("-o", "--output", type=Path, help="also write the page here")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    return parser


def _fault_trials(count: int, every: int, seed: int) -> Iterator[Trial]:
    for number, net in enumerate(nets(count, seed)):
        yield from fault_trials(net, number, every)


def _judged(trials: Iterable[Trial]) -> list[Outcome]:
    """The outcomes, in the order of the trials; the work is in child processes, one for every core."""
    drawn = list(trials)  # before any thread starts: torch's exporter is not made for company
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [outcome for outcomes in pool.map(Trial.outcomes, drawn) for outcome in outcomes]


def _print_faults(outcomes: Sequence[Outcome]) -> None:
    for where, kinds in GROUPS.items():
        print(f"{where}:")
        found = [outcome for outcome in outcomes if outcome.kind in kinds]
        _print_rows(sorted(found, key=lambda outcome: (kinds.index(outcome.kind), ["", *SIZES].index(outcome.size))))


def _print_rows(outcomes: Iterable[Outcome]) -> None:
    """One row for every kind, or for every size of it."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        name = f"{outcome.kind}, {outcome.size}" if outcome.size else outcome.kind
        groups.setdefault(name, []).append(outcome)
    for name, group in groups.items():
        print(LAYOUT.format(name, *_cells(group)).rstrip())


def _cells(group: Sequence[Outcome]) -> list[str]:
    words = Counter(outcome.code for outcome in group if outcome.code)
    by_residual = words.pop("step-residual", 0)
    votes = [(outcome.accepted, outcome.allclose, outcome.torch_verify) for outcome in group]
    return [
        str(len(group)),
        *(f"{sum(column) / len(group):.0%}" for column in zip(*votes, strict=True)),
        *(str(count or "") for count in (by_residual, words.total(), sum(outcome.read_back for outcome in group))),
        _residual(group),
        ", ".join(f"{word} {count}" for word, count in words.items()),
    ]


def _residual(group: Sequence[Outcome]) -> str:
    """The smallest residual that rejected a run, or the largest that rejected none."""
    found = [outcome.residual for outcome in group if outcome.residual is not None]
    above = [outcome.residual for outcome in group if outcome.code == "step-residual" and outcome.residual is not None]
    if above:
        return f"{min(above):.3g}"
    return f"{max(found):.3g}" if found else ""


if __name__ == "__main__":
    sys.exit(main())
