"""What a checkpoint says of its network is used and said; what it does not say is assumed and said."""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export.checkpoint import Checkpoint, load_checkpoint
from rnn_export.errors import SourceError
from rnn_export.module import SingleMatrixRNN, from_torch

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("RNN_EXPORT_CHECKPOINTS", ROOT.parent / "shared" / "checkpoints"))


def load(tmp_path: Path, value: object, **options: Any) -> Checkpoint:
    torch.save(value, tmp_path / "network.pt")
    return load_checkpoint(tmp_path / "network.pt", **options)


class TestWhatIsSaid:
    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_a_pickled_module_says_it(self, tmp_path, nonlinearity, batch_first):
        network = nn.RNN(3, 4, 2, nonlinearity=nonlinearity, batch_first=batch_first, bidirectional=True)
        found = load(tmp_path, nn.Sequential(nn.Flatten(), network))
        assert found.weights.spec == from_torch(network).spec
        assert dict(found.weights).keys() == dict(network.named_parameters()).keys()
        assert found.notes == (
            "recurrent part '1'",
            f"nonlinearity {nonlinearity} and batch_first {batch_first}: the pickled torch.nn.modules.rnn.RNN says so",
        )

    def test_a_pickled_cell_says_its_nonlinearity(self, tmp_path):
        found = load(tmp_path, nn.RNNCell(3, 4, nonlinearity="relu", bias=False))
        assert str(found.weights.spec) == "RNN(3 -> 4, relu, no bias)"
        assert found.notes[0] == "nonlinearity relu: the pickled torch.nn.modules.rnn.RNNCell says so"

    def test_a_pickled_single_matrix_network_says_it(self, tmp_path):
        network = SingleMatrixRNN(3, 4, 2, nonlinearity="relu", batch_first=True)
        found = load(tmp_path, network)
        assert found.weights.spec == network.spec
        assert any("rnn_export.module.SingleMatrixRNN says so" in note for note in found.notes)

    def test_a_state_dict_does_not_and_tanh_is_assumed_aloud(self, tmp_path):
        found = load(tmp_path, nn.RNN(3, 4, nonlinearity="relu").state_dict())
        assert found.weights.spec.nonlinearity == "tanh"
        assert found.notes[0].startswith("assumed tanh and time first, which the file does not say")

    def test_what_is_asked_goes_before_what_is_said(self, tmp_path):
        found = load(tmp_path, nn.RNN(3, 4, batch_first=True), nonlinearity="relu", batch_first=False)
        assert str(found.weights.spec) == "RNN(3 -> 4, relu)"
        assert found.notes[1:] == (
            "relu as asked, although network.pt says tanh",
            "batch_first False as asked, although network.pt says True",
        )

    def test_a_module_that_contradicts_its_tensors_is_refused(self, tmp_path):
        network = nn.RNN(3, 4)
        network.hidden_size = 5
        with pytest.raises(SourceError, match="says that its hidden_size is 5, but its tensors make RNN"):
            load(tmp_path, network)

    def test_a_mode_that_no_rnn_has_is_refused(self, tmp_path):
        network = nn.RNN(3, 4)
        network.mode = "RNN_SIGMOID"
        with pytest.raises(SourceError, match="not 'sigmoid'"):
            load(tmp_path, network)


class TestWhichPart:
    def test_a_training_checkpoint_has_one(self, tmp_path):
        network = nn.RNN(3, 4)
        optimizer = torch.optim.Adam(network.parameters())
        network(torch.randn(2, 1, 3))[0].sum().backward()
        optimizer.step()
        found = load(tmp_path, {"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()})
        assert found.notes[0] == "recurrent part 'state_dict'"
        for name, tensor in network.state_dict().items():
            np.testing.assert_array_equal(found.weights[name], tensor.numpy())

    def test_other_parts_may_be_of_any_type(self, tmp_path):
        state = {"rnn": nn.RNN(3, 4).state_dict(), "head": nn.Linear(4, 2).half().state_dict(), "step": torch.tensor(3)}
        assert load(tmp_path, state).weights.spec.hidden_size == 4
        integers = {name: tensor.int() for name, tensor in nn.RNN(3, 4).state_dict().items()}
        with pytest.raises(SourceError, match=r"b\.weight_ih_l0 is not float32"):
            load(tmp_path, {"a": nn.RNN(3, 4), "b": integers})

    def test_several_are_listed(self, tmp_path):
        with pytest.raises(SourceError, match=r"2 recurrent parts. Choose with --prefix. There are: a, module\.b"):
            load(tmp_path, {"a": nn.RNN(3, 4), "module": {"b": nn.RNN(2, 3)}})
        assert load(tmp_path, {"a": nn.RNN(3, 4), "b": nn.RNN(2, 3)}, prefix="b").weights.spec.input_size == 2

    @pytest.mark.parametrize(("kind", "word"), [("LSTM", "an LSTM"), ("GRU", "a GRU")])
    def test_gated_networks_are_refused_by_name(self, tmp_path, kind, word):
        with pytest.raises(SourceError, match=f"holds {word}"):
            load(tmp_path, getattr(nn, kind)(3, 4))

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ({"epoch": 3}, "holds no tensors"),
            (types.SimpleNamespace(), "holds no tensors"),
            (torch.zeros(3), "holds no recurrent weights"),
            ({"linear.weight": torch.zeros(4, 7)}, "holds no recurrent weights"),
            ({"i2h.weight": torch.zeros(4, 4)}, "holds no recurrent weights"),
            ({"weight_hh_l0": torch.zeros(4, 4)}, "has weight_hh but no weight_ih"),
            ({"weight_ih_l0": torch.zeros(4, 3, 1), "weight_hh_l0": torch.zeros(4, 4)}, "3 axes"),
            ({"matrix_l0": torch.zeros(4, 7), "bias_l0": torch.zeros(4), "matrix_l1": torch.zeros(4)}, "layer"),
            (
                {
                    "matrix_l0": torch.zeros(4, 7),
                    "bias_l0": torch.zeros(4),
                    "matrix_l1": torch.zeros(4),
                    "bias_l1": torch.zeros(4),
                },
                "matrix_l1 has shape",
            ),
            (
                {
                    "weight_ih_l0": torch.zeros(4, 3),
                    "weight_hh_l0": torch.zeros(4, 4),
                    "weight_hh_l9999": torch.zeros(4, 4),
                },
                "layer 9999 is there",
            ),
            ({name: tensor.long() for name, tensor in nn.RNN(3, 4).state_dict().items()}, "float16 or bfloat16. Conv"),
            (
                {**nn.RNN(3, 4).state_dict(), "bias_ih_l0": torch.zeros(1).expand(4)},
                "bias_ih_l0 claims 4 numbers where its storage has 1",
            ),
        ],
    )
    def test_what_is_no_rnn_is_refused_with_a_reason(self, tmp_path, value, reason):
        with pytest.raises(SourceError, match=reason):
            load(tmp_path, value)


class TestHalfPrecision:
    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_it_comes_back_bit_for_bit(self, tmp_path, dtype, legacy):
        state = nn.RNN(3, 4).to(dtype).state_dict()
        torch.save(state, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
        found = load_checkpoint(tmp_path / "net.pt").weights
        assert found.dtype.name == str(dtype).removeprefix("torch.")
        for name, tensor in state.items():
            assert found[name].tobytes() == tensor.view(torch.int16).numpy().tobytes()


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_weights_come_back(self, tmp_path, save):
        network = nn.RNN(3, 4, 2)
        arrays = {f"enc.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
        save(tmp_path / "network.npz", **arrays, epoch=3)
        found = load_checkpoint(tmp_path / "network.npz", nonlinearity="relu", batch_first=True)
        assert str(found.weights.spec) == "RNN(3 -> 4, relu, 2 layers, batch first)"
        assert found.notes == ("recurrent part 'enc'",)
        for name, array in found.weights.items():
            assert array.tobytes() == arrays[f"enc.{name}"].tobytes()

    def test_half_precision_comes_back(self, tmp_path):
        arrays = {"weight_ih_l0": np.full((4, 3), 0.1, np.float16), "weight_hh_l0": np.ones((4, 4), np.float16)}
        np.savez(tmp_path / "a.npz", **arrays)
        found = load_checkpoint(tmp_path / "a.npz").weights
        assert found.dtype == np.float16
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)

    def test_integers_are_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", weight_ih_l0=np.zeros((4, 3), np.int8), weight_hh_l0=np.zeros((4, 4)))
        with pytest.raises(SourceError, match="weight_ih_l0 is not float32, float64, float16 or bfloat16"):
            load_checkpoint(tmp_path / "a.npz")


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rnn_export", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_flip_flop_network_exports_and_verifies(tmp_path: Path) -> None:
    source = SHARED / "flip_flop_net_6.pt"
    if not source.exists():
        pytest.skip(f"{source} is not there: set RNN_EXPORT_CHECKPOINTS to the folder of real checkpoints")
    done = command("export", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "RNN(3 -> 8, tanh, batch first)" in done.stdout
    assert "nonlinearity tanh and batch_first True: the pickled torch.nn.modules.rnn.RNN says so" in done.stderr
    done = command("verify", tmp_path / "out", "--runtime", "onnxruntime-cpu")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["latifb_single_matrix_MIT.pth", "spro_legacy_tar_MIT.pt"])
def test_the_pickled_code_of_real_checkpoints_is_not_run(tmp_path: Path, name: str) -> None:
    source = SHARED / name
    if not source.exists():
        pytest.skip(f"{source} is not there: set RNN_EXPORT_CHECKPOINTS to the folder of real checkpoints")
    done = command("export", source, "-o", tmp_path / "out")
    assert (done.returncode, "internal error" in done.stderr) in ((0, False), (3, False)), done.stderr
