"""``package.module:factory``: a function of the user's that makes a model and its inputs."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from rnn_export.errors import SourceError, UsageError
from rnn_export.whole_model.users_code import users_code

if TYPE_CHECKING:
    from torch import nn

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Made:
    """What the factory ``source`` returned: (model, inputs) or (model, inputs, dynamic_shapes)."""

    source: str
    model: "nn.Module"
    inputs: Any
    dynamic_shapes: Any = None


def is_factory(source: str) -> bool:
    """Whether a source names a factory, and no file or spec."""
    return _NAME.fullmatch(source) is not None and not os.path.exists(source)  # noqa: PTH110  # any length may be asked


def load_factory(source: str, *, trusted: bool) -> Made:
    """Import the module, from the current folder too, and call the factory.

    Raises:
        UsageError: the caller does not say that the code may run; nothing is imported.
        SourceError: it cannot be imported, raises, or returns something else.
    """
    if not trusted:
        raise UsageError(f"{source} is code, and importing it runs it", "Add --trust-code if you trust it")
    from torch import nn

    factory = _function(source)
    with users_code(f"{source} raised"):
        made = factory()
    parts = made if isinstance(made, tuple) else (made,)
    if len(parts) not in (2, 3) or not isinstance(parts[0], nn.Module):
        raise SourceError(
            f"{source} returned {type(made).__name__}, not a model with its inputs",
            "Return (model, inputs) or (model, inputs, dynamic_shapes)",
        )
    return Made(source, *parts)


def _function(source: str) -> Callable[[], Any]:
    """The function that a source names.

    Raises:
        SourceError: the module cannot be imported, or has no such function.
    """
    path, _, name = source.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    with users_code(f"{source} cannot be imported", "The current folder is looked at first"):
        module = import_module(path)
    if not hasattr(module, name):
        close = get_close_matches(name, vars(module), n=1)
        raise SourceError(f"module {path!r} has no {name!r}", f"Did you mean {close[0]}?" if close else "")
    function = getattr(module, name)
    if not callable(function):
        raise SourceError(f"{source} is no function, but {type(function).__name__}", "Name one that makes the model")
    return cast(Callable[[], Any], function)
