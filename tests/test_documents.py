"""What is written comes back as it was, and what is of another kind is refused by its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf, nan
from sys import float_info

import pytest

from rnn_export.documents import from_document, to_document


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    number: float


@dataclass(frozen=True)
class Outer:
    text: str
    colour: Colour
    inner: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    table: Mapping[str, tuple[int, ...]] | None = None
    names: frozenset[str] = frozenset()


WHOLE = Outer("x", Colour.RED, (Inner(1.5), Inner(2.0)), Inner(0.0), {"a": (1, 2)}, frozenset({"b", "a"}))


def test_it_comes_back_as_it_was():
    assert from_document(Outer, json.loads(json.dumps(to_document(WHOLE)))) == WHOLE
    assert from_document(Outer, {"text": "x", "colour": "red", "unknown": 1}) == Outer("x", Colour.RED)


def test_sets_are_sorted_and_numbers_finite():
    assert to_document(WHOLE)["names"] == ["a", "b"]
    assert to_document((inf, nan, -inf, 1.0)) == [float_info.max] * 3 + [1.0]


def test_a_whole_number_is_a_float_too():
    assert from_document(Inner, {"number": 3}) == Inner(3.0)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"text": None}, "text is 'None'"),
        ({"colour": "blue"}, "colour is 'blue'"),
        ({"colour": []}, "colour is"),
        ({"inner": {}}, "inner is"),
        ({"inner": [{"number": 1.0}, {"number": "1"}]}, r"inner\[1\]\.number is '1'"),
        ({"inner": [1]}, r"inner\[0\] is no object"),
        ({"maybe": {}}, r"maybe\.number is missing"),
        ({"table": {"a": [True]}}, r"table\.a\[0\] is 'True'"),
        ({"names": "ab"}, "names is 'ab'"),
    ],
)
def test_another_kind_is_refused_by_its_place(change, place):
    with pytest.raises(ValueError, match=place):
        from_document(Outer, {**to_document(WHOLE), **change})


def test_what_is_no_object_is_refused():
    with pytest.raises(ValueError, match="it is no object"):
        from_document(Outer, [])
