"""A source gives exactly its weights, or one SourceError that names the file; it never runs code and never guesses."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn

from rnn_export.checkpoint import METADATA_KEY, load_checkpoint, save_weights
from rnn_export.element_types import FLOATS
from rnn_export.errors import SourceError
from rnn_export.module import SingleMatrixRNN, SingleMatrixRNNCell, TwoMatrixRNN, from_torch, to_torch
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.strategies import every_spec

REAL = Path(__file__).parent.parent.parent / "shared" / "checkpoints"
ZEROS = {"weight_ih_l0": np.zeros((4, 3), np.float32), "weight_hh_l0": np.zeros((4, 4), np.float32)}
ASSUMED = "assumed tanh and time first, which the file does not say; else --nonlinearity and --batch-first"
TIME_FIRST = "assumed time first, which the file does not say; else --batch-first"


def stored(folder: Path, tensors: dict[str, np.ndarray], name: str = "net.safetensors", **metadata: str) -> Path:
    path = folder / name
    save_file(tensors, path, metadata or None)
    return path


def saved(folder: Path, state: object, name: str = "net.pt") -> Path:
    torch.save(state, folder / name)
    return folder / name


def same(first: Weights, second: Weights) -> bool:
    return first.spec == second.spec and all(first[name].tobytes() == second[name].tobytes() for name in first)


def refused(path: Path, **options) -> SourceError:
    with pytest.raises(SourceError) as caught:
        load_checkpoint(path, **options)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestRoundTrips:
    @pytest.mark.parametrize("spec", every_spec(), ids=str)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_what_is_saved_is_loaded_bit_for_bit_and_nothing_is_assumed(self, tmp_path, spec, dtype):
        weights = Weights.random(spec, 1, dtype)
        path = tmp_path / "net.safetensors"
        save_weights(path, weights)
        found = load_checkpoint(path)
        assert same(found.weights, weights)
        assert found.notes == ()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.source == {"name": "net.safetensors", "sha256": digest}

    @pytest.mark.parametrize("name", ["net.pt", "net.pth"])
    @pytest.mark.parametrize("spec", [spec for spec in every_spec() if not spec.batch_first], ids=str)
    def test_torchs_own_state_dict_is_loaded_bit_for_bit(self, tmp_path, spec, name):
        weights = Weights.random(spec, 2)
        path = saved(tmp_path, to_torch(weights).state_dict(), name)
        found = load_checkpoint(path, nonlinearity=spec.nonlinearity)
        assert same(found.weights, weights)
        assert found.notes == (TIME_FIRST,)

    @pytest.mark.parametrize("spec", [spec for spec in every_spec() if not spec.batch_first], ids=str)
    def test_a_single_matrix_state_dict_is_loaded_from_under_its_prefix(self, tmp_path, spec):
        module = SingleMatrixRNN.from_weights(Weights.random(spec, 2))
        state = {f"model.rnn.{name}": tensor for name, tensor in module.state_dict().items()}
        path = saved(tmp_path, {**state, "model.head.weight": torch.zeros(2, 4), "model.head.bias": torch.zeros(2)})
        for prefix in (None, "model.rnn", "model.rnn."):
            found = load_checkpoint(path, nonlinearity=spec.nonlinearity, prefix=prefix)
            assert same(found.weights, module.to_weights())
            assert found.notes == ("recurrent part 'model.rnn'", TIME_FIRST)

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("kind", [nn.RNNCell, SingleMatrixRNNCell])
    def test_a_cells_state_dict_is_a_network_of_one_layer(self, tmp_path, kind, bias):
        cell = kind(3, 4, bias=bias)
        found = load_checkpoint(saved(tmp_path, cell.state_dict()))
        assert same(found.weights, from_torch(cell))
        assert found.weights.spec == RNNSpec(3, 4, bias=bias)

    def test_safetensors_may_be_strided_anyhow_and_hold_other_things(self, tmp_path):
        tensors = {**ZEROS, "steps": np.array([3], np.int64), "embedding.weight": np.zeros((9, 3), np.float16)}
        assert load_checkpoint(stored(tmp_path, tensors)).weights.spec == RNNSpec(3, 4, bias=False)

    def test_saving_is_deterministic(self, tmp_path):
        weights = Weights.random(RNNSpec(3, 4, 2), 0)
        for name in ("a", "b"):
            save_weights(tmp_path / name, weights)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_everybody_may_read_what_was_saved(self, tmp_path):
        save_weights(tmp_path / "a", Weights.random(RNNSpec(3, 4), 0))
        (tmp_path / "b").write_bytes(b"")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode

    def test_named_parameters_are_as_good_as_a_state_dict(self, tmp_path):
        network = nn.RNN(3, 4)
        found = load_checkpoint(saved(tmp_path, dict(network.named_parameters())))
        assert same(found.weights, from_torch(network))


class TestWhatIsNotSaid:
    def test_tanh_is_assumed_and_said(self, tmp_path):
        found = load_checkpoint(stored(tmp_path, ZEROS))
        assert found.weights.spec == RNNSpec(3, 4, bias=False)
        assert found.notes == (ASSUMED,)

    def test_what_is_asked_for_is_taken_and_needs_no_note(self, tmp_path):
        found = load_checkpoint(stored(tmp_path, ZEROS), nonlinearity="relu", batch_first=True)
        assert found.weights.spec == RNNSpec(3, 4, nonlinearity="relu", bias=False, batch_first=True)
        assert found.notes == ()

    def test_metadata_says_it_all(self, tmp_path):
        spec = RNNSpec(3, 4, nonlinearity="relu", bias=False, batch_first=True)
        path = stored(tmp_path, ZEROS, rnn_export=json.dumps(spec.to_dict()))
        assert load_checkpoint(path).weights.spec == spec
        assert load_checkpoint(path).notes == ()

    def test_what_is_asked_for_outranks_the_metadata_and_is_said(self, tmp_path):
        path = stored(tmp_path, ZEROS, rnn_export=json.dumps(RNNSpec(3, 4, bias=False).to_dict()))
        found = load_checkpoint(path, nonlinearity="relu")
        assert found.weights.spec.nonlinearity == "relu"
        assert found.notes == ("relu as asked, although net.safetensors says tanh",)

    def test_metadata_that_contradicts_the_tensors_is_refused(self, tmp_path):
        path = stored(tmp_path, ZEROS, rnn_export=json.dumps(RNNSpec(3, 5, bias=False).to_dict()))
        assert "but its tensors make" in str(refused(path))

    @pytest.mark.parametrize("text", ["", "{", "5", "[]", "null", '{"input_size": 3}', '"x"'])
    def test_metadata_that_is_no_spec_is_refused(self, tmp_path, text):
        assert f"the {METADATA_KEY} metadata" in str(refused(stored(tmp_path, ZEROS, rnn_export=text)))

    def test_metadata_that_is_nested_too_deeply_is_refused(self, tmp_path):
        refused(stored(tmp_path, ZEROS, rnn_export="[" * 100_000))

    def test_another_nonlinearity_is_refused(self, tmp_path):
        with pytest.raises(SourceError, match="nonlinearity must be one of tanh, relu, identity, not 'sigmoid'"):
            load_checkpoint(stored(tmp_path, ZEROS), nonlinearity="sigmoid")


class TestSpecStrings:
    def test_they_are_random_weights_of_that_seed_and_say_so(self):
        found = load_checkpoint("rnn:3,4,relu,layers=2,seed=7")
        assert same(found.weights, Weights.random(RNNSpec(3, 4, 2, "relu"), 7))
        assert (found.notes, found.source) == (("random weights, seed 7",), {"name": "rnn:3,4,relu,layers=2,seed=7"})

    def test_the_options_of_files_hold_for_them_too(self):
        spec = load_checkpoint("rnn:3,4", nonlinearity="relu", batch_first=True).weights.spec
        assert spec == RNNSpec(3, 4, nonlinearity="relu", batch_first=True)

    @pytest.mark.parametrize(
        "text", ["rnn:", "rnn:4", "rnn:4,x", "rnn:4,8,gelu", "rnn:0,8", "rnn:4,8,layers=", "rnn:4,-8"]
    )
    def test_a_wrong_one_is_refused_with_its_part_named(self, text):
        with pytest.raises(SourceError):
            load_checkpoint(text)

    def test_a_negative_seed_is_refused(self):
        with pytest.raises(SourceError):
            load_checkpoint("rnn:4,8,seed=-1")

    def test_a_network_that_no_memory_holds_is_refused(self):
        with pytest.raises(SourceError):
            load_checkpoint("rnn:9999999,9999999")

    @pytest.mark.parametrize("text", ["rnn:4,8" + ",no-bias" * 50, "x" * 300 + ".pt"])
    def test_a_long_one_is_no_file_name(self, text):
        try:
            load_checkpoint(text)
        except SourceError:
            return

    def test_a_file_of_that_very_name_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        stored(tmp_path, ZEROS, "rnn:3,4.safetensors")
        assert load_checkpoint("rnn:3,4.safetensors").source["sha256"]


class TestSeveralParts:
    @pytest.fixture
    def two(self, tmp_path) -> Path:
        parts = {"encoder.rnn": nn.RNN(3, 4), "decoder": nn.RNN(5, 6), "gate": nn.LSTM(3, 4)}
        return saved(tmp_path, {f"{at}.{k}": v for at, net in parts.items() for k, v in net.state_dict().items()})

    def test_they_are_listed_and_the_choice_is_asked_for(self, two):
        error = refused(two)
        assert "has 2 recurrent parts" in str(error)
        assert "--prefix. There are: encoder.rnn, decoder, gate (an LSTM)" in str(error)

    def test_one_is_chosen_by_its_prefix(self, two):
        assert load_checkpoint(two, prefix="encoder.rnn").weights.spec == RNNSpec(3, 4)
        assert load_checkpoint(two, prefix="decoder").weights.spec == RNNSpec(5, 6)

    def test_a_prefix_that_is_none_gets_the_list(self, two):
        assert str(refused(two, prefix="decode")).endswith("encoder.rnn, decoder, gate (an LSTM)")

    def test_a_chosen_lstm_is_named_as_such(self, two):
        assert "'gate' in net.pt is an LSTM" in str(refused(two, prefix="gate"))

    def test_the_only_rnn_beside_an_lstm_is_taken(self, tmp_path):
        state = {f"a.{k}": v for k, v in nn.RNN(3, 4).state_dict().items()}
        state |= {f"b.{k}": v for k, v in nn.GRU(3, 4).state_dict().items()}
        assert load_checkpoint(saved(tmp_path, state)).notes[0] == "recurrent part 'a'"

    def test_the_bias_of_another_part_is_no_bias_of_the_rnn(self, tmp_path):
        state = {**nn.RNN(3, 4, bias=False).state_dict(), **nn.Linear(4, 2).state_dict(prefix="head.")}
        assert load_checkpoint(saved(tmp_path, state)).weights.spec == RNNSpec(3, 4, bias=False)

    def test_the_part_without_a_prefix_can_be_chosen(self, tmp_path):
        state = {**nn.RNN(3, 4).state_dict(), **{f"b.{k}": v for k, v in nn.RNN(5, 6).state_dict().items()}}
        assert load_checkpoint(saved(tmp_path, state), prefix="").weights.spec == RNNSpec(3, 4)

    def test_a_half_precision_part_beside_the_rnn_is_no_hindrance(self, tmp_path):
        state = {f"rnn.{k}": v for k, v in nn.RNN(3, 4).state_dict().items()}
        path = saved(tmp_path, {**state, "head.bias": torch.zeros(3, dtype=torch.float16)})
        assert load_checkpoint(path).weights.spec == RNNSpec(3, 4)


def lstm(folder: Path) -> Path:
    return saved(folder, nn.LSTM(3, 4).state_dict())


def directory(folder: Path) -> Path:
    (folder / "net.pt").mkdir()
    return folder / "net.pt"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


BAD = {
    "missing": (lambda folder: folder / "net.safetensors", "does not exist"),
    "missing, with a colon": (lambda folder: folder / "gru:4,8", "A random network is written rnn:INPUT,HIDDEN"),
    "folder": (directory, "is a folder"),
    "empty": (written("net.pt", b""), "is empty"),
    "empty safetensors": (written("net.safetensors", b""), "is empty"),
    "other suffix": (written("net.npz", b"PK"), "cannot be read"),
    "no suffix": (written("net", b"x"), "is not a .safetensors, .pt, .pth or .npz"),
    "text as .pt": (written("net.pt", b"hello"), "cannot be read"),
    "text as .safetensors": (written("net.safetensors", b"hello, world"), "cannot be read"),
    "LSTM": (lstm, "holds an LSTM, by the rows of its weight_hh"),
    "LSTM with projection": (lambda f: saved(f, nn.LSTM(3, 4, proj_size=2).state_dict()), "holds an LSTM"),
    "LSTMCell": (lambda f: saved(f, nn.LSTMCell(3, 4).state_dict()), "holds an LSTM"),
    "GRU": (lambda f: saved(f, nn.GRU(3, 4).state_dict()), "holds a GRU"),
    "GRUCell": (lambda f: saved(f, nn.GRUCell(3, 4).state_dict()), "holds a GRU"),
    "no recurrent weights": (lambda f: saved(f, nn.Linear(3, 4).state_dict()), "holds no recurrent weights"),
    "integers": (
        lambda f: saved(f, {name: tensor.int() for name, tensor in nn.RNN(3, 4).state_dict().items()}),
        "is not float32, float64, float16 or bfloat16. Convert it",
    ),
    "float8 safetensors": (
        lambda f: stored(f, {name: array.astype("float8_e5m2") for name, array in ZEROS.items()}),
        "is not float32, float64, float16 or bfloat16",
    ),
    "mixed types": (
        lambda f: stored(f, {**ZEROS, "weight_hh_l0": np.zeros((4, 4))}),
        "the weights mix float32 and float64",
    ),
    "NaN": (lambda f: stored(f, {**ZEROS, "weight_hh_l0": np.full((4, 4), np.nan, np.float32)}), "holds NaN"),
    "a layer is missing": (
        lambda f: stored(f, {**ZEROS, "weight_ih_l2": np.zeros((4, 4), np.float32)}),
        "needs weight_ih_l1, which is missing",
    ),
    "half a bias": (lambda f: stored(f, {**ZEROS, "bias_ih_l0": np.zeros(4, np.float32)}), "needs bias_hh_l0"),
    "wrong shape": (
        lambda f: stored(f, {**ZEROS, "weight_hh_l0": np.zeros((4, 3), np.float32)}),
        "weight_hh_l0 has shape (4, 3)",
    ),
    "one axis": (
        lambda f: stored(f, {**ZEROS, "weight_ih_l0": np.zeros(4, np.float32)}),
        "the weights of the first layer have 1 axes",
    ),
    "a matrix without input columns": (
        lambda f: stored(f, {"matrix_l0": np.zeros((4, 4), np.float32)}),
        "leaves no input columns",
    ),
    "a list": (lambda f: saved(f, [torch.zeros(3)]), "holds no recurrent weights"),
    "a tensor": (lambda f: saved(f, torch.zeros(3)), "holds no recurrent weights"),
}


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD)
    def test_it_is_one_source_error_that_names_the_file_and_the_reason(self, tmp_path, kind):
        make, words = BAD[kind]
        error = refused(make(tmp_path))
        assert words in str(error)
        assert error.exit_code == 3

    def test_a_part_without_its_input_weights_is_refused(self, tmp_path):
        refused(stored(tmp_path, {"weight_hh_l0": ZEROS["weight_hh_l0"]}))

    def test_sparse_weights_are_refused(self, tmp_path):
        state = {name: torch.from_numpy(array).to_sparse() for name, array in ZEROS.items()}
        refused(saved(tmp_path, state))

    @given(st.data())
    def test_a_safetensors_file_that_stops_anywhere_gives_no_weights(self, tmp_path_factory, data):
        folder = tmp_path_factory.getbasetemp()
        save_weights(folder / "whole", Weights.random(RNNSpec(2, 3), 0))
        whole = (folder / "whole").read_bytes()
        path = folder / "cut.safetensors"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        refused(path)

    @given(st.data())
    def test_a_torch_file_that_stops_anywhere_gives_no_weights(self, tmp_path_factory, data):
        folder = tmp_path_factory.getbasetemp()
        whole = saved(folder, to_torch(Weights.random(RNNSpec(2, 3), 0)).state_dict(), "whole.pt").read_bytes()
        path = folder / "cut.pt"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        refused(path)

    @given(st.data())
    def test_a_legacy_torch_file_that_stops_anywhere_gives_no_weights(self, tmp_path_factory, data):
        folder = tmp_path_factory.getbasetemp()
        state = to_torch(Weights.random(RNNSpec(2, 3), 0)).state_dict()
        torch.save(state, folder / "whole.pt", _use_new_zipfile_serialization=False)
        whole = (folder / "whole.pt").read_bytes()
        path = folder / "cut.pt"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        refused(path)

    @given(st.binary(min_size=1, max_size=200), st.sampled_from(["noise.pt", "noise.safetensors"]))
    def test_noise_gives_no_weights(self, tmp_path_factory, noise, name):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(noise)
        refused(path)


class TestNoCodeIsRun:
    """The canary file stays where it is not."""

    def test_a_pickled_module_is_read_without_its_class(self, tmp_path):
        network = nn.RNN(3, 4, nonlinearity="relu")
        assert load_checkpoint(saved(tmp_path, network)).weights.spec == RNNSpec(3, 4, nonlinearity="relu")

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_trap_in_a_torch_file_is_not_sprung(self, tmp_path, legacy):
        state = {**nn.RNN(3, 4).state_dict(), "trap": Trap(tmp_path / "sprung")}
        torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
        assert load_checkpoint(tmp_path / "net.pt").weights.spec == RNNSpec(3, 4)
        assert not (tmp_path / "sprung").exists()

    def test_a_trap_in_a_bare_pickle_is_not_sprung(self, tmp_path):
        (tmp_path / "net.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        refused(tmp_path / "net.pt")
        assert not (tmp_path / "sprung").exists()

    def test_a_trap_in_the_pickle_of_a_zip_is_not_sprung(self, tmp_path):
        path = saved(tmp_path, nn.RNN(3, 4).state_dict())
        with zipfile.ZipFile(path) as whole:
            parts = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as changed:
            for name, content in parts.items():
                trap = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
                changed.writestr(name, trap if name.endswith("data.pkl") else content)
        refused(path)
        assert not (tmp_path / "sprung").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real checkpoints (../shared/checkpoints) are not here")
class TestRealCheckpoints:
    def test_a_pickled_module_of_a_class_that_is_nowhere_is_read(self):
        found = load_checkpoint(REAL / "flip_flop_net_6.pt")
        assert found.weights.spec == RNNSpec(3, 8, batch_first=True)

    @pytest.mark.parametrize("name", ["spro_legacy_tar_MIT.pt", "latifb_single_matrix_MIT.pth"])
    def test_the_classic_cell_is_a_source_like_any_other(self, name):
        found = load_checkpoint(REAL / name, head="i2o")
        assert found.weights.spec == RNNSpec(52, 128, nonlinearity="identity")
        assert found.head is not None
        assert found.head.weight.shape == (18, 52 + 128)
        assert found.notes[0] == "recurrent part 'i2h': h' = i2h(cat(x, h))"
        assert "assumed no activation" in found.notes[1]


def test_the_stored_networks_of_this_project_load():
    for path in (Path(__file__).parent.parent / "models").glob("*.safetensors"):
        found = load_checkpoint(path)
        assert found.weights.spec == RNNSpec.from_dict(json.loads(_metadata(path)["rnn_export"]))
        assert found.notes == ("recurrent part 'rnn'",)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return file.metadata()


def test_the_two_matrix_form_has_torchs_own_names(tmp_path):
    weights = Weights.random(RNNSpec(3, 4, 2), 0)
    path = saved(tmp_path, TwoMatrixRNN.from_weights(weights).state_dict())
    assert same(load_checkpoint(path).weights, weights)
    assert replace(load_checkpoint(path).weights.spec, nonlinearity="relu") != weights.spec
