"""Triton's config.pbtxt: protobuf text of its ModelConfig, read and written without Triton's own packages.

The message types are made at run time from ``_MESSAGES``, which holds the fields that are read or written here. Text
and JSON know fields by their names only, so the numbers are this module's own. What the table lacks is passed over
where somebody else's configuration is judged, and refused where it is to be sent on.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]  # protobuf comes without types
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    text_format,
)

from rnn_export.errors import ArtifactError, UsageError

FILE = "config.pbtxt"
LONGEST = 200  # characters of what the parser says
_HINT = "Correct it; it is protobuf text of a ModelConfig"
_UNKNOWN = "Take that field out, or copy the model into the server's repository"
Config = Any  # a message whose class is made at run time
_PACKAGE = "inference"
_SCALARS = {"string": 9, "bool": 8, "int32": 5, "int64": 3, "uint32": 13, "uint64": 4}  # FieldDescriptorProto
_ENUM, _MESSAGE, _OPTIONAL, _REPEATED = 14, 11, 1, 3
_ENUMS = {
    "DataType": "TYPE_INVALID TYPE_BOOL TYPE_UINT8 TYPE_UINT16 TYPE_UINT32 TYPE_UINT64 TYPE_INT8 TYPE_INT16 TYPE_INT32 "
    "TYPE_INT64 TYPE_FP16 TYPE_FP32 TYPE_FP64 TYPE_STRING TYPE_BF16",
    "InstanceKind": "KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL",
    "ControlKind": "CONTROL_SEQUENCE_START CONTROL_SEQUENCE_READY CONTROL_SEQUENCE_END CONTROL_SEQUENCE_CORRID",
}
# "kind name" each; kind* is repeated, {kind} a map from strings, and of what follows @ at most one is set.
_MESSAGES = {
    "ModelConfig": "string name, string platform, string backend, string runtime, VersionPolicy version_policy, "
    "int32 max_batch_size, Input* input, Output* output, BatchInput* batch_input, Optimization optimization, "
    "DynamicBatching dynamic_batching @scheduling, SequenceBatching sequence_batching @scheduling, "
    "Ensemble ensemble_scheduling @scheduling, InstanceGroup* instance_group, string default_model_filename, "
    "{string} cc_model_filenames, {Parameter} parameters, Warmup* model_warmup, Operations model_operations, "
    "Agents model_repository_agents",
    "VersionPolicy": "Latest latest @policy, All all @policy, Specific specific @policy",
    "Latest": "uint32 num_versions",
    "All": "",
    "Specific": "int64* versions",
    "Reshape": "int64* shape",
    "Input": "string name, DataType data_type, int64* dims, Reshape reshape, bool allow_ragged_batch",
    "Output": "string name, DataType data_type, int64* dims, Reshape reshape",
    "BatchInput": "string* target_name",
    "DynamicBatching": "uint64 max_queue_delay_microseconds",
    "SequenceBatching": "Direct direct @strategy, Oldest oldest @strategy, uint64 max_sequence_idle_microseconds, "
    "ControlInput* control_input, State* state",
    "Direct": "",
    "Oldest": "int32 max_candidate_sequences, uint64 max_queue_delay_microseconds",
    "ControlInput": "string name, Control* control",
    "Control": "ControlKind kind, int32* int32_false_true, DataType data_type",
    "State": "string input_name, string output_name, DataType data_type, int64* dims, InitialState* initial_state",
    "InitialState": "string name, DataType data_type, int64* dims, bool zero_data @data, string data_file @data",
    "Ensemble": "",
    "InstanceGroup": "InstanceKind kind, int32 count",
    "Parameter": "string string_value",
    "Warmup": "string name, uint32 batch_size, {WarmupInput} inputs",
    "WarmupInput": "DataType data_type, int64* dims, bool zero_data @data, bool random_data @data, "
    "string input_data_file @data",
    "Optimization": "Accelerators execution_accelerators",
    "Accelerators": "Accelerator* gpu_execution_accelerator, Accelerator* cpu_execution_accelerator",
    "Accelerator": "string name",
    "Operations": "string* op_library_filename",
    "Agents": "Agent* agents",
    "Agent": "string name",
}


# A name in front of a list without a colon; strings and comments are matched first, and so kept.
_LIST = re.compile(r""" "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \#[^\n]* | ([A-Za-z_]\w*) (\s*) \[ """, re.VERBOSE)


def parse_config(text: str, where: str = FILE, *, strict: bool = False) -> Config:
    """The configuration that a text says.

    Args:
        text: of a config.pbtxt.
        where: the file, for the message.
        strict: a field that the table lacks is an error too: what is then written or sent is all that the text says.

    Raises:
        ArtifactError: it is damaged, or has such a field; the message names the file and the line.
    """
    config = _class()()
    try:
        if strict:
            text_format.Parse(text, config)
        else:
            text_format.Parse(_LIST.sub(_with_colon, text), config, allow_unknown_field=True)
    except text_format.ParseError as error:
        said = str(error).rpartition(" : ")[2][:LONGEST]  # behind its own line and column; it repeats the whole line
        place = f"{where}, line {error.GetLine()}" if error.GetLine() else where
        hint = (
            "Take that field out, or copy the model into the server's repository"
            if " has no field named " in said
            else _HINT
        )
        raise ArtifactError(f"{place}: {said}", hint) from None
    except RecursionError:
        raise ArtifactError(f"{where} is nested too deeply", _HINT) from None
    return config


def config_from(fields: Mapping[str, Any]) -> Config:
    """A configuration out of plain values: dicts, lists, numbers, and enums by their names.

    Raises:
        UsageError: there is no such field, or its value is of another kind.
    """
    try:
        return json_format.ParseDict(dict(fields), _class()())
    except json_format.ParseError as error:
        raise UsageError(f"no configuration for Triton: {error}", "The fields are those of its ModelConfig") from None


def write_config(config: Config) -> str:
    """The text of a configuration, the same for the same content; strings are escaped and stay on their lines."""
    return str(text_format.MessageToString(config, as_utf8=True))


def as_json(config: Config) -> str:
    """The same as JSON, in which Triton takes a configuration over the network."""
    return str(json_format.MessageToJson(config, preserving_proto_field_name=True))


def _with_colon(found: re.Match[str]) -> str:
    """``step [`` as ``step: [``, which means the same: without it the parser cannot pass over a list of messages."""
    return f"{found[1]}:{found[2]}[" if found[1] else found[0]


@cache
def _class() -> Any:
    """The class of ModelConfig, in a pool of its own: Triton's client may have registered the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package=_PACKAGE, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values.split()):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(filter(None, fields.split(", ")), start=1):
            _add_field(message, number, field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ModelConfig"))


def _add_field(message: Any, number: int, text: str) -> None:
    kind, name, *group = text.split()
    field = message.field.add(name=name, number=number, label=_REPEATED if kind[-1] in "*}" else _OPTIONAL)
    if kind.startswith("{"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "string key")
        _add_field(entry, 2, f"{kind.strip('{}')} value")
        field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    plain = kind.rstrip("*")
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type, field.type_name = (_ENUM if plain in _ENUMS else _MESSAGE), f".{_PACKAGE}.{plain}"
    if group:
        groups = [one.name for one in message.oneof_decl]
        if group[0][1:] not in groups:
            message.oneof_decl.add(name=group[0][1:])
            groups.append(group[0][1:])
        field.oneof_index = groups.index(group[0][1:])
