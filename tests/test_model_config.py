"""config.pbtxt as Triton reads and writes it, with any names in it."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_export
from rnn_export.environments import interpreter_of
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.model_config import _MESSAGES, config_from, parse_config, write_config
from rnn_export.runtimes import RUNTIMES
from scripts.wrong.repositories import H_C, network, sizes, stateless, streaming

TEXT = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 8 ] },
        { name: "lengths" data_type: TYPE_INT32 dims: [ 1 ] reshape: { shape: [ ] } } ]   # the states are not here
output { name: "y", data_type: TYPE_FP32, dims: -1 dims: 16 }
sequence_batching { max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 16 }
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ]
  state [ { input_name: "h_in" output_name: "h_out" data_type: TYPE_FP32 dims: [ 1, 16 ]
            initial_state: { name: "h0" data_type: TYPE_FP32 dims: [ 1, 16 ] zero_data: true } } ] }
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
optimization { execution_accelerators { cpu_execution_accelerator [ { name: "openvino" } ] } }
model_warmup [ { name: "w" batch_size: 2
  inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 4, 8 ] random_data: true } } } ]
version_policy { specific { versions: [ 1, 3 ] } }
cc_model_filenames { key: "8.9" value: "other.onnx" }
model_operations: { op_library_filename: "unknown.so" }
response_cache { enable: true }
"""
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),  # protobuf has no lone surrogates
    st.sampled_from(['a" } max_batch_size: 9 #', 'x"\nbackend: "python"', "\\", '\\"', "a\tb", "\0", "ü\u202e"]),
)


def test_the_text_that_triton_takes_is_read():
    config = parse_config(TEXT)
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 8)
    assert [(one.name, list(one.dims)) for one in config.input] == [("x", [-1, 8]), ("lengths", [1])]
    assert [one.HasField("reshape") for one in config.input] == [False, True]
    assert list(config.output[0].dims) == [-1, 16]
    assert config.WhichOneof("scheduling") == "sequence_batching"
    batcher = config.sequence_batching
    assert batcher.WhichOneof("strategy") == "oldest"
    assert batcher.control_input[0].control[0].int32_false_true == [0, 1]
    assert batcher.state[0].initial_state[0].WhichOneof("data") == "zero_data"
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert config.optimization.execution_accelerators.cpu_execution_accelerator[0].name == "openvino"
    assert config.model_warmup[0].inputs["x"].WhichOneof("data") == "random_data"
    assert list(config.version_policy.specific.versions) == [1, 3]
    assert dict(config.cc_model_filenames) == {"8.9": "other.onnx"}


def test_what_is_sent_on_has_to_be_known():
    """Else it would be left out, and the server would run something else than the file says."""
    known = TEXT[: TEXT.index("response_cache")]
    assert parse_config(known, strict=True) == parse_config(known)
    with pytest.raises(
        ArtifactError, match=r'^lstm/config.pbtxt, line \d+: .* no field named "response_cache"'
    ) as caught:
        parse_config(TEXT, "lstm/config.pbtxt", strict=True)
    assert "field" in caught.value.hint
    with pytest.raises(ArtifactError, match='"label_filename"'):
        parse_config('output { label_filename: "words" }', strict=True)


@pytest.mark.parametrize(
    "unknown",
    [
        'batch_output [ { target_name: [ "y" ] kind: BATCH_SCATTER_WITH_INPUT_SHAPE }, { } ]',
        'ensemble_scheduling { step\n[ { model_name: "a" input_map { key: "x" value: "y" } } ] }',
        "instance_group { rate_limiter { resources [ < name: 'r' > ] } kind: KIND_CPU }",
    ],
)
def test_lists_of_what_is_not_known_are_passed_over(unknown):
    text = f"{unknown} name: \"a [\" # b [\nplatform: 'c \\' [ \"' max_batch_size: x"
    with pytest.raises(ArtifactError, match=f"line {text.count(chr(10)) + 1}: .*integer: x"):
        parse_config(text)
    config = parse_config(text.replace(" x", " 8"))
    assert (config.name, config.platform, config.max_batch_size) == ("a [", "c ' [ \"", 8)


def test_every_field_of_the_table_is_read_or_written_somewhere():
    others = [file for file in Path(rnn_export.__file__).parent.rglob("*.py") if file.name != "model_config.py"]
    words = {word for file in others for word in re.findall(r"\w+", file.read_text())}
    for fields in _MESSAGES.values():
        for field in filter(None, fields.split(", ")):
            assert field.split()[1] in words, field


def test_of_what_excludes_each_other_one_is_set():
    with pytest.raises(ArtifactError, match='"sequence_batching" is specified along with field "dynamic_batching"'):
        parse_config("dynamic_batching { } sequence_batching { }")
    config = parse_config("sequence_batching { direct { } }")
    config.sequence_batching.oldest.SetInParent()
    assert config.sequence_batching.WhichOneof("strategy") == "oldest"
    state = config.sequence_batching.state.add()
    assert state.initial_state.add(zero_data=False).WhichOneof("data") == "zero_data"
    assert state.initial_state.add().WhichOneof("data") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name: "a"\nmax_batch_size: x', "line 2: .*integer: x"),
        ("\n\ninput { data_type: TYPE_FP33 }", "line 3: .*no value named TYPE_FP33"),
        ("max_batch_size: 99999999999", "line 1: .*out of range"),
        ('name: "a', "line 1: .*missing ending quote"),
        ("input {", "Expected"),
        ("dims", "Expected"),
        ("a {" * 5000, "nested too deeply"),
    ],
)
def test_a_damaged_text_is_said_with_its_line(text, said):
    with pytest.raises(ArtifactError, match=f"(?s)^lstm/config.pbtxt.*{said}") as caught:
        parse_config(text, "lstm/config.pbtxt")
    assert len(str(caught.value)) < 400


def test_a_field_that_triton_does_not_have_is_refused_where_one_writes():
    with pytest.raises(UsageError, match="max_batchsize"):
        config_from({"max_batchsize": 8})


@given(names=st.lists(NAMES, min_size=6, max_size=6))
def test_names_come_back_as_they_were_and_can_add_nothing(names):
    config, plain = config_with(*names), config_with(*"nxykvf")
    text = write_config(config)
    assert parse_config(text) == config
    assert text.count("\n") == write_config(plain).count("\n")


def config_with(name, x, y, key, value, file):
    fields = stateless(name=name, default_model_filename=file, input=[sizes(x, -1, 4)], output=[sizes(y, -1, 8)])
    return config_from({**fields, "parameters": {key: {"string_value": value}}})


def test_the_same_configuration_is_the_same_text():
    parameters = {key: {"string_value": "1"} for key in "zayb"}
    texts = {
        write_config(config_from({**stateless(), "parameters": dict(sorted(parameters.items(), reverse=turned))}))
        for turned in (False, True)
    }
    assert len(texts) == 1


def test_the_genuine_schema_reads_what_is_written():
    """In the environment of the runtime that brings Triton's client; what is unknown there is an error."""
    interpreter = interpreter_of(RUNTIMES.get("open-inference"))
    if interpreter is None:
        pytest.skip("rnn-export runtimes install open-inference")
    reader = (
        "import sys; from google.protobuf import text_format; from tritonclient.grpc import model_config_pb2\n"
        "read = text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())\n"
        "print(text_format.MessageToString(read), end='')"
    )
    written = write_config(parse_config(TEXT))
    found = subprocess.run([interpreter, "-c", reader], input=written, capture_output=True, text=True, check=True)
    assert parse_config(found.stdout) == parse_config(TEXT)
    assert "initial_state" in found.stdout


def test_the_makers_of_the_tests_agree_with_their_graphs():
    """Else a pair of the rules' tests would be about something else."""
    for fields, model in ((stateless(), network()), (streaming(), network(states=H_C))):
        config = config_from(fields)
        states = [state.input_name for state in config.sequence_batching.state]
        assert [one.name for one in config.input] + states == [value.name for value in model.graph.input]
