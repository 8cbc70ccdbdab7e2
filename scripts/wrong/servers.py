"""Servers that answer wrongly with HTTP 200: the model.py of a right bundle with one change, and what it stands for."""

import shutil
from pathlib import Path
from typing import NamedTuple

from rnn_export.bundle import Bundle
from rnn_export.targets.triton_python import MODEL

_JOINED = "np.concatenate([arrays[name] for _, arrays in group])"
_TURNED = '''def turned(names, found, strict):
    """Time and batch of the sequences change places."""
    pairs = zip(names, found, strict=strict)
    return [(name, array.swapaxes(0, 1) if name == "output" else array) for name, array in pairs]


class Sequences:'''


class WrongServer(NamedTuple):
    """One mistake.

    Attributes:
        rule: the rule of a repository whose like it is; empty where there is none.
        meaning: what the server does.
        mode: in which the bundle is shipped.
        changes: what stands in model.py, and what stands there instead.
        codes: which findings say it.
    """

    rule: str
    meaning: str
    mode: str
    changes: tuple[tuple[str, str], ...]
    codes: frozenset[str]


SERVERS = {
    "joined along time": WrongServer(
        "T1",
        "right alone; requests that come together are joined along time, and the answer is cut apart along it",
        "stateless",
        (
            (_JOINED, "np.concatenate([arrays[name] for _, arrays in group], axis=1)"),
            ("rows = [len(arrays[names[0]]) for", "rows = [arrays['input'].shape[1] for"),
            ("array[first : first + rows[number]]", "cut(name, array, first, rows[number])"),
            ("tuple(array.shape[1:] for array in arrays.values())", "arrays['input'].shape"),
            (
                "class Sequences:",
                "def cut(name, array, first, count):\n"
                "    return array[:, first : first + count] if name == 'output' else array\n\n\nclass Sequences:",
            ),
        ),
        frozenset({"mixed-up"}),
    ),
    "time first": WrongServer(
        "T2",
        "axis 0 of the graph is time, under a configuration that says that it is the batch",
        "stateless",
        (
            (_JOINED, f"np.ascontiguousarray({_JOINED}.swapaxes(0, 1))"),
            ("for name, array in zip(", "for name, array in turned("),
            ("class Sequences:", _TURNED),
        ),
        frozenset({"step-residual"}),
    ),
    "layers first": WrongServer(
        "T3",
        "states are (L*D, B, H), and those of sequences that come together are joined along the layers",
        "streaming",
        (
            (
                _JOINED,
                f"(lambda joined: joined.swapaxes(0, 1) if name == 'h_0' else joined)({_JOINED})",
            ),
            ("if len(group) > 1:", "if len(group) > 1 and False:"),  # what fails together would be right alone
        ),
        frozenset({"refused"}),
    ),
    "the state of the sequence before": WrongServer(
        "T4",
        "a sequence starts from what the one before left there",
        "streaming",
        (
            ("return self.start[None]", "return getattr(self, 'last', self.start[None])"),
            ('if self._flag(request, "END"):', 'self.last = state\n        if self._flag(request, "END"):'),
        ),
        frozenset({"step-residual"}),
    ),
    "one state for everybody": WrongServer(
        "",
        "all sequences share one state",
        "streaming",
        (('return int(self._control(request, "correlation_id"))', "return 0"),),
        frozenset({"sequence", "mixed-up", "refused"}),
    ),
}


def write_wrong(server: WrongServer, bundle: Bundle, repository: Path) -> None:
    """The models of the bundle, served wrongly.

    Args:
        server: which mistake.
        bundle: right, for Triton's python backend.
        repository: the folder to make.
    """
    shutil.copytree(bundle.path / "models", repository)
    text = MODEL.read_text()
    for before, after in server.changes:
        if before not in text:
            raise ValueError(f"model.py has no {before!r} any more")
        text = text.replace(before, after)
    (repository / bundle.facts.name / "1" / "model.py").write_text(text)
