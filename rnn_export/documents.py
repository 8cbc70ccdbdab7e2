"""Dataclasses as plain data for JSON, and back: every value is checked against its annotation on the way in.

A number that is not finite becomes the largest float, because JSON has no infinity.
"""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")


def to_document(value: Any) -> Any:
    """The value as dicts, lists, strings and finite numbers, the fields of a dataclass in their order."""
    if is_dataclass(value):
        return {field.name: to_document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_document(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [to_document(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def finite(number: float) -> float:
    """The number, or the largest float where it is NaN or infinite."""
    return number if abs(number) <= sys.float_info.max else sys.float_info.max


def from_document(kind: type[Kind], data: Any, where: str = "") -> Kind:
    """The inverse of ``to_document``; names that the dataclass does not have are passed over.

    Args:
        kind: a dataclass whose fields are annotated with what ``to_document`` knows.
        data: what ``json.loads`` gave.
        where: the place of the data in the whole, for the message.

    Raises:
        ValueError: a field is missing or of another kind; the message names its place.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'it'} is no object")
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a TypeVar cannot be bound to dataclasses
        place = f"{where}.{field.name}" if where else field.name
        if field.name in data:
            found[field.name] = _value(hints[field.name], data[field.name], place)
        elif _is_needed(field):
            raise ValueError(f"{place} is missing")
    return kind(**found)


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (hint,) = (argument for argument in arguments if argument is not NoneType)
        return None if data is None else _value(hint, data, where)
    if origin is tuple and isinstance(data, list):
        return tuple(_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is frozenset and isinstance(data, list):
        return frozenset(_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(hint, type):
        if is_dataclass(hint):
            return from_document(hint, data, where)
        if issubclass(hint, Enum) and data in [item.value for item in hint]:
            return hint(data)
        if hint is float and type(data) is int and abs(data) <= sys.float_info.max:
            return float(data)
        if type(data) is hint:  # True is no number
            return data
    raise ValueError(f"{where} is {str(data)[:60]!r}, which is not what belongs there")
