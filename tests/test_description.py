"""A checkpoint is described as it is, with what is open and what others would run, and nothing of it is run."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from rnn_export import description
from rnn_export.checkpoint import load_checkpoint
from rnn_export.description import _is_hostile, describe_checkpoint
from rnn_export.errors import SourceError

REAL = Path(__file__).parent.parent.parent / "shared" / "checkpoints"


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def everything(tmp_path) -> Path:
    network = {
        "encoder": nn.LSTM(3, 4, 2, bidirectional=True),
        "gate": nn.GRU(3, 4),
        "rnn": nn.RNN(3, 5, bidirectional=True, nonlinearity="relu"),
        "output": nn.Linear(10, 2),
        "narrow": nn.Linear(5, 2),
        "words": nn.Embedding(7, 10),
        "stem": nn.Conv1d(2, 3, 3),
        "rough": {"weight": torch.zeros(3, 3, dtype=torch.int8), "bias": torch.zeros(3, dtype=torch.int8)},
        "trap": Trap(tmp_path / "sprung"),
    }
    torch.save(network, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_every_part_has_its_kind_sizes_and_place(everything):
    found = describe_checkpoint(everything)
    networks = {part.name: (part.network, part.problem) for part in found.recurrent}
    assert networks == {
        "encoder": ("LSTM(3 -> 4, 2 layers, bidirectional)", "only RNN is exported"),
        "gate": ("GRU(3 -> 4)", "only RNN is exported"),
        "rnn": ("RNN(3 -> 5, relu, bidirectional)", ""),
    }
    rnn = found.recurrent[2]
    assert rnn.parameters == sum(parameter.numel() for parameter in nn.RNN(3, 5, bidirectional=True).parameters())
    assert [item.weight for item in rnn.recurrences] == ["weight_hh_l0", "weight_hh_l0_reverse"]
    assert rnn.heads == ("output", "words")  # by its shape the Embedding could be a Linear without bias
    assert "    --head words   if it is a Linear without bias, and no Embedding" in list(found.lines())
    assert {other.name: other.looks_like for other in found.others} == {
        "output": "Linear 10 -> 2",
        "narrow": "Linear 5 -> 2",
        "words": "weight [7, 10]",
        "stem": "weight [3, 2, 3], bias [3]",
    }
    assert set(found.unread) == {"rough.weight", "rough.bias"}


def test_what_an_unpickler_would_run_is_named_and_not_run(everything):
    found = describe_checkpoint(everything)
    assert not (everything.parent / "sprung").exists()
    assert found.security[0].startswith("names posix.mkdir, which belongs in no checkpoint")
    assert "torch.nn.modules.rnn.LSTM" in found.security[1]
    assert "posix" not in found.security[1]


def test_plain_tensors_name_nothing(tmp_path):
    torch.save(nn.RNN(3, 4).state_dict(), tmp_path / "net.pt")
    assert describe_checkpoint(tmp_path / "net.pt").security == ("tensors and containers only; nothing to import",)
    save_file({"rnn.weight_hh_l0": np.zeros((4, 4), np.float32)}, tmp_path / "net.safetensors")
    found = describe_checkpoint(tmp_path / "net.safetensors")
    assert found.security == ("safetensors cannot hold code",)
    assert "has weight_hh but no weight_ih" in found.recurrent[0].problem


def test_a_network_that_diverged_is_described_with_its_problem(tmp_path):
    state = nn.RNN(3, 4).state_dict()
    state["bias_hh_l0"][2] = torch.nan
    torch.save(state, tmp_path / "net.pt")
    assert "bias_hh_l0 holds NaN or infinity" in describe_checkpoint(tmp_path / "net.pt").recurrent[0].problem


def test_it_is_ready_for_json_and_says_the_same_to_people(everything):
    found = describe_checkpoint(everything)
    read = json.loads(json.dumps(found.to_dict()))
    assert (read["schema"], read["kind"], read["file"]) == (1, "checkpoint", "net.pt")
    assert read["recurrent"][2]["spec"]["bidirectional"] is True
    text = "\n".join(found.lines())
    assert all(part.network in text for part in found.recurrent)
    assert all(line in text for line in found.security)


def test_a_file_without_recurrence_says_what_to_try(tmp_path):
    torch.save(nn.Linear(9, 4).state_dict(), tmp_path / "net.pt")
    assert any("name the Linear" in line for line in describe_checkpoint(tmp_path / "net.pt").lines())
    with pytest.raises(SourceError, match="does not exist"):
        describe_checkpoint(tmp_path / "none.pt")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real checkpoints (../shared/checkpoints) are not here")
@pytest.mark.parametrize(
    ("name", "network", "radius", "head", "layout"),
    [
        ("flip_flop_net_6.pt", "RNN(3 -> 8, tanh, batch first)", 2.04, "output_layer", "torch zip"),
        ("latifb_single_matrix_MIT.pth", "RNN(52 -> 128, identity)", 1.06, "i2o", "torch zip"),
        ("spro_legacy_tar_MIT.pt", "RNN(52 -> 128, identity)", 1.07, "i2o", "torch legacy tar"),
    ],
)
def test_the_real_checkpoints(name, network, radius, head, layout):
    found = describe_checkpoint(REAL / name)
    (part,) = found.recurrent
    assert (part.network, part.heads, found.format) == (network, (head,), layout)
    assert part.recurrences[0].spectral_radius == pytest.approx(radius, abs=0.005)


@pytest.mark.parametrize(
    "name",
    [
        "pathlib.os.system",
        "torch.os.system",
        "types.FunctionType",
        "pathlib.Path.unlink",
        "torch.hub.load",
        "builtins.eval",
    ],
)
def test_no_detour_makes_a_name_honest(name):
    assert _is_hostile(name)


@pytest.mark.parametrize(
    "name",
    [
        *("torch.nn.modules.rnn.RNN", "torch.optim.adam.Adam", "collections.defaultdict", "argparse.Namespace"),
        *("__main__.FlipFlopNet", "sklearn.pipeline.Pipeline", "torch.nn.functional.relu"),
    ],
)
def test_what_honest_checkpoints_name_is_not_hostile(name):
    assert not _is_hostile(name)


def test_a_tensor_that_two_parts_share_is_listed_in_both(tmp_path):
    rnn, words = nn.RNN(3, 4), nn.Embedding(4, 3)
    words.weight = rnn.weight_ih_l0
    torch.save({"rnn": rnn.state_dict(), "words": words.state_dict()}, tmp_path / "net.pt")
    found = describe_checkpoint(tmp_path / "net.pt")
    assert [other.name for other in found.others] == ["words"]
    assert found.recurrent[0].problem == ""


def test_a_head_is_offered_where_export_takes_it(tmp_path):
    linears = {"wide": nn.Linear(4, 2).double(), "plain": nn.Linear(4, 2, bias=False), "narrow": nn.Linear(3, 2)}
    torch.save({"rnn": nn.RNN(3, 4), **linears}, tmp_path / "net.pt")
    offered = describe_checkpoint(tmp_path / "net.pt").recurrent[0].heads
    assert offered == ("plain",)
    assert load_checkpoint(tmp_path / "net.pt", head="plain").head is not None
    for name in ("wide", "narrow"):
        with pytest.raises(SourceError, match="Those that fit: plain"):
            load_checkpoint(tmp_path / "net.pt", head=name)


def test_many_parts_cost_little(tmp_path, monkeypatch):
    monkeypatch.setattr(description, "MOST_RADII", 2)
    torch.save({f"part{i}": nn.RNN(2, 3).state_dict() for i in range(4)}, tmp_path / "net.pt")
    found = describe_checkpoint(tmp_path / "net.pt").recurrent
    assert [len(part.recurrences) for part in found] == [1, 1, 0, 0]
    assert "no more spectral radii" in found[3].notes[-1]
