"""The rules over one model of a Triton model repository. A rule is one file in this folder, named by what it finds.

Contract. ``check(model)`` looks at what was read of the model and returns outcomes: an empty list where the rule
holds, None where there is nothing that it could be asked of. An error is an answer that would be wrong or a model
that would not load; a warning is what could not be proved or differs by design; a note is held, and has something to
say. A rule reads nothing itself and runs nothing: what has to be run is ``model.trial()``, made once for all rules.
Names in a repository may be hostile: they go into the detail only.

How to add a rule: write ``rules/NAME.py`` with ``check`` under ``@rule(CODE, ...)``. Nothing else is edited: the folder
is the registry, ``rnn-export explain CODE`` and every report have it then.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rnn_export.registry import Registry
from rnn_export.rules._model import Graph, Model, Trial, Value, listed

__all__ = ["RULES", "Graph", "Model", "Outcome", "Rule", "Trial", "Value", "error", "listed", "note", "rule", "warning"]


class Outcome(NamedTuple):
    """What a rule found in one place."""

    level: Literal["error", "warning", "note"]
    detail: str


def error(detail: str) -> Outcome:
    """An answer that would be wrong, or a model that would not load."""
    return Outcome("error", detail)


def warning(detail: str) -> Outcome:
    """What could not be proved, or differs by design."""
    return Outcome("warning", detail)


def note(detail: str) -> Outcome:
    """The rule holds, and there is something to know."""
    return Outcome("note", detail)


Check = Callable[[Model], Iterable[Outcome] | None]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: its code, such as T4.
        meaning: what it means where it does not hold.
        remedy: what to do then.
    """

    name: str
    meaning: str
    remedy: str
    check: Check

    @property
    def next_step(self) -> str:
        """The first clause of the remedy."""
        return re.split(r"(?<=[\w)}])[.;] |\.$", self.remedy)[0]


class Rules(Registry[Rule]):
    """In the order of their numbers."""

    def in_order(self) -> list[Rule]:
        return sorted(self, key=lambda rule: (len(rule.name) > 3, len(rule.name), rule.name))


RULES = Rules("rule", __name__)


def rule(code: str, *, meaning: str, remedy: str) -> Callable[[Check], Check]:
    """Register the function under it as the rule of that code."""

    def register(check: Check) -> Check:
        RULES.add(Rule(code, meaning, remedy, check))
        return check

    return register
