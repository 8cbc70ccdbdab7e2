import numpy as np
import pytest

from rnn_export.element_types import FLOATS
from rnn_export.errors import SourceError
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.strategies import every_spec

SPEC = RNNSpec(3, 4, num_layers=2, bidirectional=True)


def arrays(spec: RNNSpec = SPEC, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in Weights.random(spec, 1, dtype).items()}


def single_matrices(spec: RNNSpec) -> dict[str, np.ndarray]:
    """A network in single-matrix form, by torch's endings of names."""
    rng = np.random.default_rng(2)
    form = {}
    for name, (hidden_size, *width) in spec.weight_shapes().items():
        end = name.removeprefix("weight_ih")
        if end != name:
            form[f"matrix{end}"] = rng.normal(size=(hidden_size, width[0] + hidden_size))
            form[f"bias{end}"] = rng.normal(size=hidden_size)
    return form if spec.bias else {name: form[name] for name in form if name.startswith("matrix")}


def test_a_missing_name_is_refused():
    given = arrays()
    del given["bias_hh_l1_reverse"]
    with pytest.raises(SourceError, match="needs bias_hh_l1_reverse, which is missing"):
        Weights(SPEC, given)


def test_an_unknown_name_is_refused():
    given = arrays() | {"weight_hr_l0": np.zeros((4, 4), np.float32)}
    with pytest.raises(SourceError, match="has no parameter weight_hr_l0"):
        Weights(SPEC, given)


def test_the_weights_of_a_bigger_network_are_refused():
    with pytest.raises(SourceError, match="has no parameter bias_ih_l0"):
        Weights(RNNSpec(3, 4, num_layers=2, bidirectional=True, bias=False), arrays())


def test_mixed_types_are_refused():
    given = arrays()
    given["weight_hh_l0"] = given["weight_hh_l0"].astype(np.float64)
    with pytest.raises(SourceError, match="the weights mix float32 and float64"):
        Weights(SPEC, given)


@pytest.mark.parametrize("dtype", ["int64", "complex64", "bool", "float8_e5m2"])
def test_types_that_no_network_is_computed_in_are_refused(dtype):
    with pytest.raises(SourceError, match=f"the weights are {dtype}"):
        Weights(SPEC, {name: np.zeros(shape, dtype) for name, shape in SPEC.weight_shapes().items()})


@pytest.mark.parametrize("shape", [(4, 3), (4,), (8, 8), (4, 8, 1), ()])
def test_a_wrong_shape_is_refused_and_nothing_is_broadcast(shape):
    with pytest.raises(SourceError, match=r"weight_ih_l1 has shape .* needs"):
        Weights(SPEC, arrays() | {"weight_ih_l1": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    given = arrays()
    given["bias_ih_l0"][2] = value
    with pytest.raises(SourceError, match="bias_ih_l0 holds NaN or infinity"):
        Weights(SPEC, given)


def test_weights_are_a_copy_that_cannot_be_written_to():
    given = arrays()
    weights = Weights(SPEC, given)
    before = weights["weight_ih_l0"].copy()
    given["weight_ih_l0"][...] = 7
    np.testing.assert_array_equal(weights["weight_ih_l0"], before)
    for name in weights:
        with pytest.raises(ValueError, match="read-only"):
            weights[name][...] = 0
    with pytest.raises(TypeError):
        weights["weight_ih_l0"] = given["weight_ih_l0"]


def test_a_transposed_view_is_stored_by_its_values():
    given = arrays()
    view = np.asfortranarray(given["weight_ih_l0"])
    stored = Weights(SPEC, given | {"weight_ih_l0": view})["weight_ih_l0"]
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(stored, given["weight_ih_l0"])


@pytest.mark.parametrize("dtype", FLOATS)
def test_names_come_in_torchs_order_whatever_the_order_given(dtype):
    given = arrays(dtype=dtype)
    weights = Weights(SPEC, dict(reversed(given.items())))
    assert list(weights) == list(SPEC.weight_shapes())
    assert len(weights) == 16
    assert weights.dtype == dtype


@pytest.mark.parametrize("spec", every_spec(), ids=str)
def test_a_cell_holds_the_parameters_of_its_layer_and_direction(spec):
    weights = Weights.random(spec, 3)
    for layer, direction in spec.cells():
        end = f"_l{layer}" + ("_reverse" if direction else "")
        cell = weights.cell(layer, direction)
        assert cell.nonlinearity == spec.nonlinearity
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            expected = weights.get(name + end, np.zeros(4))
            np.testing.assert_array_equal(getattr(cell, name), expected)
            assert getattr(cell, name).dtype == np.float32


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_single_matrix_is_torchs_two_side_by_side_and_the_bias_their_sum(dtype):
    weights = Weights.random(SPEC, 4, dtype)
    matrix, bias = weights.single_matrix(1, 1)
    assert matrix.dtype == bias.dtype == dtype
    assert matrix.shape == (4, 8 + 4)
    np.testing.assert_array_equal(matrix[:, :8], weights["weight_ih_l1_reverse"])
    np.testing.assert_array_equal(matrix[:, 8:], weights["weight_hh_l1_reverse"])
    np.testing.assert_array_equal(bias, weights["bias_ih_l1_reverse"] + weights["bias_hh_l1_reverse"])


@pytest.mark.parametrize("spec", every_spec(), ids=str)
def test_single_matrix_form_there_and_back_is_bit_exact(spec):
    form = single_matrices(spec)
    weights = Weights.from_single_matrix(spec, form)
    for layer, direction in spec.cells():
        end = f"_l{layer}" + ("_reverse" if direction else "")
        matrix, bias = weights.single_matrix(layer, direction)
        np.testing.assert_array_equal(matrix, form[f"matrix{end}"])
        np.testing.assert_array_equal(bias, form.get(f"bias{end}", np.zeros(4)))


@pytest.mark.parametrize("name", ["matrix_l1_reverse", "bias_l0"])
def test_a_missing_name_of_the_single_matrix_form_is_refused(name):
    form = single_matrices(SPEC)
    del form[name]
    with pytest.raises(SourceError, match=f"in single-matrix form needs {name}, which is missing"):
        Weights.from_single_matrix(SPEC, form)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("matrix_l0", (4, 6)), ("matrix_l0", (4, 8)), ("matrix_l1", (3, 12)), ("bias_l0", (1,))],
)
def test_a_wrong_shape_in_single_matrix_form_is_refused(name, shape):
    with pytest.raises(SourceError, match="has shape"):
        Weights.from_single_matrix(SPEC, single_matrices(SPEC) | {name: np.zeros(shape)})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_weights_are_uniform_in_torchs_range_and_follow_the_seed(dtype):
    spec = RNNSpec(30, 25)
    weights = Weights.random(spec, 5, dtype)
    values = np.concatenate([array.ravel() for array in weights.values()])
    assert weights.dtype == dtype
    assert np.abs(values).max() <= 25**-0.5
    assert values.min() < -0.19
    assert values.max() > 0.19
    assert abs(values.mean()) < 0.02
    same, other = Weights.random(spec, 5, dtype), Weights.random(spec, 6, dtype)
    for name in weights:
        np.testing.assert_array_equal(weights[name], same[name])
        assert not np.array_equal(weights[name], other[name])
