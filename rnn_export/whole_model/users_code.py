"""What code of the user's raises, in one line: the file, the line and the exception."""

import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rnn_export.errors import RnnExportError, SourceError

_PACKAGES = {"site-packages", "dist-packages"}
_GENERATED = ("<frozen ", "<eval_with_key>")  # Python's own import system, and torch's code of captured graphs
_NOT_THE_USERS = (f"{sysconfig.get_path('stdlib')}/", f"{Path(__file__).parent.parent}/", *_GENERATED)


@contextmanager
def users_code(what: str, hint: str = "") -> Iterator[None]:
    """Around code of the user's: whatever it raises becomes a SourceError.

    Args:
        what: what did not work, such as ``the model does not run``.
        hint: what to do next.

    Raises:
        SourceError: from the original; an RnnExportError stays what it is.
    """
    try:
        yield
    except RnnExportError:
        raise
    except (Exception, SystemExit) as error:
        raise SourceError(f"{what}: {told(error)}", hint) from error


def told(error: BaseException) -> str:
    """``file.py:13: AttributeError: ...``, the first line of what it says, and where the user's code raised it."""
    said = str(error).strip().partition("\n")[0]
    return ": ".join(part for part in (place_of(error), type(error).__name__, said) if part)


def place_of(error: BaseException) -> str:
    """The innermost line that is the user's in what raised, as ``file.py:13``; empty where there is none."""
    return last_place((frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__))


def last_place(lines: Iterable[tuple[str, int]]) -> str:
    """The last of (file, line) that is in no installed package, as ``file.py:13``; empty where none is."""
    places = [f"{Path(file).name}:{line}" for file, line in lines if _is_the_users(file)]
    return places[-1] if places else ""


def _is_the_users(file: str) -> bool:
    return not file.startswith(_NOT_THE_USERS) and not _PACKAGES & set(Path(file).parts)
