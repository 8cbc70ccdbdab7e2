"""``package.module:factory``: a function of the user's that makes a model and its inputs."""

import os
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rnn_export.errors import SourceError, UsageError

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

    module, _, name = source.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        made = getattr(import_module(module), name)()
    except ModuleNotFoundError as error:
        raise SourceError(f"{source} cannot be imported: {error}", "The current folder is looked at first") from error
    except (Exception, SystemExit) as error:  # whatever code of the user's raises
        raise SourceError(f"{source} raised {type(error).__name__}: {error}") from error
    parts = made if isinstance(made, tuple) else (made,)
    if len(parts) not in (2, 3) or not isinstance(parts[0], nn.Module):
        raise SourceError(
            f"{source} returned {type(made).__name__}, not a model with its inputs",
            "Return (model, inputs) or (model, inputs, dynamic_shapes)",
        )
    return Made(source, *parts)
