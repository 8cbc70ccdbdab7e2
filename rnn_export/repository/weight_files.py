"""The weights that an ONNX file names beside itself, and the memory that a runtime may take to load it."""

from pathlib import Path

import onnx

from rnn_export.child import MEMORY_LIMIT
from rnn_export.forms._external import declared

COPIES = 8  # of the weights that a runtime may hold
MOST_WEIGHTS = 2**35  # bytes of address space for all copies: the sizes are those of a file that may be anybody's


def weight_files(model: onnx.ModelProto) -> list[Path]:
    """What a model names beside itself, each once; as it says it, which may lead anywhere."""
    named = (one.value for tensor in declared(model) for one in tensor.external_data if one.key == "location")
    return [Path(name) for name in dict.fromkeys(named)]


def memory_limit(file: Path) -> int:
    """Bytes of address space for loading the file. What else lies beside it does not count."""
    named = weight_files(onnx.load(file, format="protobuf", load_external_data=False))
    places = [file, *(file.parent / name for name in named)]
    size = sum(place.stat().st_size for place in places if place.is_file())
    return MEMORY_LIMIT + min(COPIES * size, MOST_WEIGHTS)
