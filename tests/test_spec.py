import json
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnn_export.errors import SourceError
from rnn_export.spec import SPEC_SYNTAX, RNNSpec, parse_spec
from tests.strategies import every_spec

SPECS = st.builds(
    RNNSpec,
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 9),
    st.sampled_from(["tanh", "relu"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@st.composite
def spec_strings(draw: st.DrawFn) -> tuple[str, RNNSpec, int]:
    """A spec, a seed and one of the ways to write them: any order, defaults written out or not."""
    spec, seed = draw(SPECS), draw(st.integers(0, 2**31))
    options = []
    if spec.nonlinearity == "relu" or draw(st.booleans()):
        options.append(spec.nonlinearity)
    if spec.num_layers > 1 or draw(st.booleans()):
        options.append(f"layers={spec.num_layers}")
    if seed or draw(st.booleans()):
        options.append(f"seed={seed}")
    flags = {
        "bidirectional": spec.bidirectional,
        "batch-first": spec.batch_first,
        "no-bias": not spec.bias,
    }
    options += [flag for flag, present in flags.items() if present]
    comma = draw(st.sampled_from([",", ", "]))
    sizes = [str(spec.input_size), str(spec.hidden_size)]
    return "rnn:" + comma.join(sizes + draw(st.permutations(options))), spec, seed


@given(spec_strings())
def test_a_spec_string_says_what_it_was_written_from(case):
    text, spec, seed = case
    assert parse_spec(text) == (spec, seed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a spec"),
        ("rnn", "'rnn' is not a spec"),
        ("rnn:", "'rnn:' is not a spec"),
        ("rnn:4", "'rnn:4' is not a spec"),
        ("4,8", "'4,8' is not a spec"),
        ("RNN:4,8", "'RNN:4,8' is not a spec"),
        ("lstm:4,8", "'lstm:4,8' is not a spec"),
        ("rnn:four,8", "'four' in the spec 'rnn:four,8' is not a number"),
        ("rnn:4,8.5", "'8.5' in the spec 'rnn:4,8.5' is not a number"),
        ("rnn:4,", "'' in the spec 'rnn:4,' is not a number"),
        ("rnn:4,8,layers=two", "'two' in the spec 'rnn:4,8,layers=two' is not a number"),
        ("rnn:4,8,layers", "'' in the spec 'rnn:4,8,layers' is not a number"),
        ("rnn:4,8,seed=x", "'x' in the spec 'rnn:4,8,seed=x' is not a number"),
        ("rnn:4,8,", "'' in the spec 'rnn:4,8,' is not understood"),
        ("rnn:4,8,gelu", "'gelu' in the spec 'rnn:4,8,gelu' is not understood"),
        ("rnn:4,8,batch_first", "'batch_first' in the spec 'rnn:4,8,batch_first' is not understood"),
        (
            "rnn:4,8,bidirectional=1",
            "'bidirectional=1' in the spec 'rnn:4,8,bidirectional=1' is not understood",
        ),
    ],
)
def test_a_bad_spec_string_is_named_with_its_part_and_the_syntax(text, message):
    with pytest.raises(SourceError) as caught:
        parse_spec(text)
    assert str(caught.value) == f"{message}. Write {SPEC_SYNTAX}"


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("rnn:0,8", "input_size", 0),
        ("rnn:4,-8", "hidden_size", -8),
        ("rnn:4,8,layers=0", "num_layers", 0),
    ],
)
def test_a_size_below_one_in_a_spec_string_is_named(text, name, size):
    with pytest.raises(SourceError, match=f"{name} must be an integer of at least 1, not {size}"):
        parse_spec(text)


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("size", [0, -1, True, 2.0, "3", None])
def test_a_size_is_an_integer_of_at_least_one(name, size):
    with pytest.raises(SourceError, match=f"{name} must be an integer of at least 1"):
        RNNSpec(**({"input_size": 3, "hidden_size": 4} | {name: size}))


@pytest.mark.parametrize("nonlinearity", ["Tanh", "sigmoid", "", None])
def test_a_nonlinearity_that_torch_has_not_is_refused(nonlinearity):
    with pytest.raises(SourceError, match="nonlinearity must be one of tanh, relu"):
        RNNSpec(3, 4, nonlinearity=nonlinearity)


@pytest.mark.parametrize("spec", every_spec(), ids=str)
def test_names_shapes_and_order_of_the_weights_are_torchs(spec):
    state = torch.nn.RNN(**spec.to_dict()).state_dict()
    expected = [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    assert list(spec.weight_shapes().items()) == expected


@given(SPECS)
def test_a_spec_survives_json(spec):
    assert RNNSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


GOOD = RNNSpec(3, 4).to_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != "bias"}, "a spec needs the keys .*bias"),
        (GOOD | {"dropout": 0.5}, r"a spec needs the keys .*, not \[.*'dropout'"),
        (GOOD | {"bias": 1}, "bias must be true or false, not 1"),
        (GOOD | {"batch_first": "no"}, "batch_first must be true or false, not 'no'"),
        (GOOD | {"bidirectional": None}, "bidirectional must be true or false, not None"),
        (GOOD | {"hidden_size": "4"}, "hidden_size must be an integer of at least 1, not '4'"),
        (GOOD | {"nonlinearity": "gelu"}, "nonlinearity must be one of tanh, relu, identity, not 'gelu'"),
    ],
)
def test_a_dictionary_that_is_no_spec_is_refused(values, message):
    with pytest.raises(SourceError, match=message):
        RNNSpec.from_dict(values)


def test_a_spec_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RNNSpec(3, 4).hidden_size = 5


def test_str_says_what_differs_from_the_default():
    assert str(RNNSpec(3, 4)) == "RNN(3 -> 4, tanh)"
    assert str(RNNSpec(3, 4, 2, "relu", False, True, True)) == (
        "RNN(3 -> 4, relu, 2 layers, bidirectional, no bias, batch first)"
    )
