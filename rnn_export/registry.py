"""A registry whose content is a folder: every module in it that does not start with ``_`` is a plug-in.

The modules are imported when the registry is first asked, so that importing the package stays cheap.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Generic, Protocol, TypeVar

from rnn_export.errors import UsageError


class Named(Protocol):
    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class Registry(Generic[Item]):
    """The plug-ins of one folder, in the order of their names.

    Args:
        kind: what one plug-in is called in an error message, such as "runtime".
        package: the dotted name of the folder, such as "rnn_export.runtimes".
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._items: dict[str, Item] = {}
        self._loaded = False

    def add(self, item: Item) -> None:
        if item.name in self._items:
            raise ValueError(f"two {self._kind}s are called {item.name!r}; a name is written once")
        self._items[item.name] = item

    def remove(self, name: str) -> None:
        del self._items[name]

    def get(self, name: str) -> Item:
        """The plug-in of that name.

        Raises:
            UsageError: there is none; the message names the closest one.
        """
        self._load()
        if name in self._items:
            return self._items[name]
        close = get_close_matches(name, self._items, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(self._items))}"
        raise UsageError(f"unknown {self._kind} {name!r}", hint)

    def __iter__(self) -> Iterator[Item]:
        self._load()
        return iter([self._items[name] for name in sorted(self._items)])

    def names(self) -> list[str]:
        return [item.name for item in self]

    def _load(self) -> None:
        if self._loaded:
            return
        folder = import_module(self._package).__path__
        for module in iter_modules([str(Path(place)) for place in folder]):
            if not module.name.startswith("_"):
                import_module(f"{self._package}.{module.name}")
        self._loaded = True  # only now: a plug-in that cannot be imported is reported every time
