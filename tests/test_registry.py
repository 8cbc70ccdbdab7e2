"""A registry over a folder of plug-ins that the test itself writes."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

import pytest

from rnn_export.errors import UsageError

PACKAGE = "temporary_animals"
FOLDER = f"""
from typing import NamedTuple
from rnn_export.registry import Registry

class Animal(NamedTuple):
    name: str
    legs: int

ANIMALS = Registry("animal", "{PACKAGE}")
"""


def plug_in(name: str, legs: int) -> str:
    return f"from {PACKAGE} import ANIMALS, Animal\nANIMALS.add(Animal({name!r}, {legs}))\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Callable[..., ModuleType]]:
    """Writes the files as a package on sys.path and imports it."""

    def write(**files: str) -> ModuleType:
        place = tmp_path / PACKAGE
        place.mkdir()
        for name, text in {"__init__": FOLDER, **files}.items():
            (place / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return import_module(PACKAGE)

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_every_file_of_the_folder_is_a_plug_in_and_names_are_sorted(folder):
    animals = folder(a_file=plug_in("zebra", 4), b_file=plug_in("ant", 6)).ANIMALS
    assert animals.names() == ["ant", "zebra"]
    assert [item.legs for item in animals] == [6, 4]
    assert animals.get("ant").legs == 6


def test_a_file_with_an_underscore_is_not_a_plug_in(folder):
    assert folder(ant=plug_in("ant", 6), _shared="raise AssertionError").ANIMALS.names() == ["ant"]


def test_plug_ins_are_imported_when_the_registry_is_first_asked_and_only_once(folder):
    animals = folder(ant=plug_in("ant", 6)).ANIMALS
    assert f"{PACKAGE}.ant" not in sys.modules
    assert animals.names() == animals.names() == ["ant"]
    assert f"{PACKAGE}.ant" in sys.modules


def test_a_misspelt_name_gets_the_closest_one(folder):
    animals = folder(zebra=plug_in("zebra", 4), ant=plug_in("ant", 6)).ANIMALS
    with pytest.raises(UsageError, match=r"unknown animal 'zerba'\. Did you mean 'zebra'\?"):
        animals.get("zerba")


def test_a_name_close_to_none_gets_the_whole_list(folder):
    animals = folder(zebra=plug_in("zebra", 4), ant=plug_in("ant", 6)).ANIMALS
    with pytest.raises(UsageError, match=r"unknown animal 'xylophone'\. There are: ant, zebra"):
        animals.get("xylophone")


def test_two_plug_ins_of_one_name_are_refused(folder):
    animals = folder(ant=plug_in("ant", 6), termite=plug_in("ant", 6)).ANIMALS
    with pytest.raises(ValueError, match="two animals are called 'ant'"):
        animals.names()


def test_a_removed_plug_in_is_unknown(folder):
    animals = folder(zebra=plug_in("zebra", 4), ant=plug_in("ant", 6)).ANIMALS
    assert animals.names() == ["ant", "zebra"]
    animals.remove("ant")
    assert animals.names() == ["zebra"]
    with pytest.raises(UsageError, match="unknown animal 'ant'"):
        animals.get("ant")


def test_a_plug_in_that_cannot_be_imported_is_not_skipped(folder):
    animals = folder(ant="raise RuntimeError('no legs')").ANIMALS
    with pytest.raises(RuntimeError, match="no legs"):
        animals.names()


def test_a_broken_plug_in_is_reported_every_time(folder):
    animals = folder(ant="raise RuntimeError('no legs')").ANIMALS
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no legs"):
            animals.names()
