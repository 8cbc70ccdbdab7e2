"""Everything that torch saves comes back bit for bit, and every damaged file is refused or its damage is named."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import time
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnn_export.checkpoint import load_checkpoint
from rnn_export.errors import SourceError
from rnn_export.module import SingleMatrixRNN, SingleMatrixRNNCell, TwoMatrixRNN
from rnn_export.torch_files import TorchFile, read_torch_file
from tests import hostile
from tests.strategies import as_array

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("RNN_EXPORT_CHECKPOINTS", ROOT.parent / "shared" / "checkpoints"))
REPEATABLE = settings(max_examples=400, deadline=None, derandomize=True, database=None)
FORMATS = {"zip": True, "legacy": False}
Save = Callable[..., Path]


@pytest.fixture(params=FORMATS)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    """torch.save in one of its two living formats."""

    def write(value: object, **options: Any) -> Path:
        path = tmp_path / f"{request.param}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the legacy format cannot find the source of a class made here
            torch.save(value, path, _use_new_zipfile_serialization=FORMATS[request.param], **options)
        return path

    return write


def assert_same(found: TorchFile, state: dict[str, torch.Tensor]) -> None:
    assert list(found.tensors) == list(state)
    for name, tensor in state.items():
        expected = as_array(tensor.detach())
        assert found.tensors[name].dtype == expected.dtype, name
        assert found.tensors[name].shape == expected.shape, name
        assert found.tensors[name].tobytes() == expected.tobytes(), name


def vanished(source: str, name: str = "vanished") -> Any:
    """An object of a class whose module is gone after it was made."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(source, module.__dict__)  # noqa: S102
    return module


class TestTensors:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_a_state_dict(self, save, protocol):
        state = nn.RNN(3, 5, num_layers=2, bidirectional=True).state_dict()
        assert_same(read_torch_file(save(state, pickle_protocol=protocol)), state)

    @pytest.mark.parametrize(
        "dtype",
        [
            "float64",
            "float32",
            "float16",
            "bfloat16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "bool",
            "complex64",
            "complex128",
        ],
    )
    def test_types(self, save, dtype):
        state = {"a": (torch.randn(4, 3) * 9).to(getattr(torch, dtype))}
        assert_same(read_torch_file(save(state)), state)

    @pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
    def test_types_that_torch_keeps_as_untyped_bytes(self, save, dtype):
        state = {"a": torch.arange(6).to(getattr(torch, dtype)).reshape(2, 3)}
        found = read_torch_file(save(state))
        assert_same(found, state)
        assert not any("damaged" in note for note in found.notes)

    def test_views_share_their_storage(self, save):
        whole = torch.arange(24.0)
        state = {
            "whole": whole,
            "matrix": whole.view(4, 6),
            "transposed": whole.view(4, 6).t(),
            "column": whole.view(4, 6)[:, 2],
            "slice": whole[5:9],
            "scalar": whole[7],
            "empty": torch.empty(0, 3),
            "none": whole[:0],
            "axis of one": whole.view(4, 6)[1:2, ::2],
        }
        found = read_torch_file(save(state))
        assert_same(found, state)
        assert found.tensors["whole"].base is not None
        assert not found.tensors["whole"].flags.writeable

    def test_parameters_with_attributes_and_single_tensors(self, save):
        parameter, tensor = nn.Parameter(torch.randn(3)), torch.randn(2)
        parameter.note, tensor.note = "attribute", "attribute"
        assert_same(read_torch_file(save({"p": parameter, "t": tensor})), {"p": parameter, "t": tensor})
        assert_same(read_torch_file(save(tensor)), {"": tensor})

    @pytest.mark.filterwarnings("ignore")
    def test_what_numpy_has_no_word_for_is_left_out_and_said(self, tmp_path):
        state = {
            "sparse": torch.eye(3).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
            "float8": torch.randn(3).to(torch.float8_e4m3fn),
            "negated": torch.imag(torch.randn(3, dtype=torch.complex64).conj()),
            "repeated": torch.ones(1).expand(100),
            "meta": torch.empty(3, device="meta"),
            "plain": torch.randn(3),
        }
        torch.save(state, tmp_path / "a.pt")
        found = read_torch_file(tmp_path / "a.pt")
        assert_same(found, {"plain": state["plain"]})
        assert set(found.remarks) == set(state) - {"plain"}
        assert all("was not read" in remark for remark in found.remarks.values())

    @pytest.mark.parametrize("place", ["cuda:0", "cuda:7", "mps", "xla:1"])
    def test_where_it_was_saved_does_not_matter(self, save, place):
        state = nn.RNN(2, 3).state_dict()
        path = save(state)
        old, new = hostile.body("cpu"), hostile.body(place)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            assert any(old in content for content in members.values())
            path.write_bytes(hostile.zipped({name: content.replace(old, new) for name, content in members.items()}))
        else:
            path.write_bytes(path.read_bytes().replace(old, new))
        assert_same(read_torch_file(path), state)

    def test_a_big_endian_file(self, tmp_path):
        state = {"a": torch.randn(3), "b": torch.arange(3), "c": torch.randn(3, dtype=torch.bfloat16)}
        torch.save(state, tmp_path / "a.pt")
        with zipfile.ZipFile(tmp_path / "a.pt") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        root = next(iter(members)).split("/")[0]
        for key, width in (("0", 4), ("1", 8), ("2", 2)):
            members[f"{root}/data/{key}"] = (
                np.frombuffer(members[f"{root}/data/{key}"], f"u{width}").byteswap().tobytes()
            )
        members[f"{root}/byteorder"] = b"big"
        (tmp_path / "b.pt").write_bytes(hostile.zipped(members))
        found = read_torch_file(tmp_path / "b.pt")
        assert_same(found, state)

    def test_a_file_saved_without_checksums_says_so(self, tmp_path):
        state = nn.RNN(2, 3).state_dict()
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(state, tmp_path / "a.pt")
        finally:
            torch.serialization.set_crc32_options(True)
        found = read_torch_file(tmp_path / "a.pt")
        assert_same(found, state)
        assert any("no checksums" in note for note in found.notes)


def legacy_tensor(
    kind: str, key: int, storage: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> bytes:
    """An entry of the member ``tensors`` of a legacy tar file."""
    head = b"(" + hostile.body(key) + hostile.body(storage) + hostile.name("torch", kind) + b"t."
    axes = len(size)
    return head + struct.pack(f"<i4x{axes}q{axes}qq", axes, *size, *stride, offset)


class TestSharedStoragesOfTheLegacyFormats:
    numbers = np.arange(10, dtype=np.float32)

    def test_tar(self, tmp_path):
        storages = (
            hostile.number(1) + b"(" + hostile.body(1) + hostile.body("cpu") + hostile.name("torch", "FloatStorage")
        )
        storages += (
            b"t." + struct.pack("<q", 10) + self.numbers.tobytes() + hostile.pickle.dumps([(2, 1, 0, 4), (3, 1, 4, 6)])
        )
        tensors = hostile.number(3) + legacy_tensor("FloatTensor", 11, 1, 0, (10,), (1,))
        tensors += legacy_tensor("FloatTensor", 12, 2, 0, (2, 2), (1, 2))
        tensors += legacy_tensor("FloatTensor", 13, 3, 1, (5,), (1,))
        whole = b"}" + b"".join(hostile.body(key) + hostile.body(str(key)) + b"Qs" for key in (11, 12, 13)) + b"."
        path = tmp_path / "a.pt"
        path.write_bytes(hostile.tarred(storages=storages, tensors=tensors, pickle=whole))
        found = read_torch_file(path)
        np.testing.assert_array_equal(found.tensors["11"], self.numbers)
        np.testing.assert_array_equal(found.tensors["12"], [[0, 2], [1, 3]])
        np.testing.assert_array_equal(found.tensors["13"], self.numbers[5:])
        assert len(found.notes) == 1
        path.write_bytes(
            hostile.tarred(storages=storages, tensors=tensors, pickle=b"}" + hostile.body("w") + b"\x8c\x0214Qs.")
        )
        with pytest.raises(SourceError, match="tensor '14' that is not there"):
            read_torch_file(path)

    def test_stream(self, tmp_path):
        def view(offset: int, count: int) -> bytes:
            return tensor_of(
                0, (count,), (1,), storage=("storage", None, "7", "cpu", 10, (str(offset), offset, count))
            )[1:-2]

        whole = b"}" + view(0, 4).replace(hostile.body("w"), hostile.body("a"), 1) + b"s" + view(4, 6) + b"s."
        head = hostile.number(hostile.MAGIC) + hostile.number(hostile.PROTOCOL) + hostile.pickle.dumps({})
        path = tmp_path / "a.pt"
        path.write_bytes(head + whole + hostile.pickle.dumps(["7"]) + struct.pack("<q", 10) + self.numbers.tobytes())
        found = read_torch_file(path)
        np.testing.assert_array_equal(found.tensors["a"], self.numbers[:4])
        np.testing.assert_array_equal(found.tensors["w"], self.numbers[4:])
        assert len(found.notes) == 1


class TestTree:
    def test_a_training_checkpoint(self, save):
        network = nn.Sequential(nn.RNN(3, 4), nn.RNN(4, 4))
        optimizer = torch.optim.Adam(network.parameters())
        network[1](network[0](torch.randn(5, 2, 3))[0])[0].sum().backward()
        optimizer.step()
        path = save(
            {
                "model_state": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "pickled optimizer": optimizer,
                "epoch": 3,
                "args": types.SimpleNamespace(lr=0.1),
                "history": [{"loss": 1.0}, (2.0, None)],
            }
        )
        found = read_torch_file(path)
        assert_same(found, {f"model_state.{name}": tensor for name, tensor in network.state_dict().items()})
        assert not any("damaged" in note for note in found.notes)

    def test_moments_keyed_like_weights_are_never_weights(self, save):
        state = nn.RNN(3, 4).state_dict()
        found = read_torch_file(save({"optimizer": {"state": {"exp_avg": state}, "param_groups": [state]}}))
        assert found.tensors == {}

    def test_modules_in_lists_and_objects(self, save):
        first, second = nn.RNN(2, 3, nonlinearity="relu"), nn.Linear(2, 2)
        found = read_torch_file(save([first, {"deep": types.SimpleNamespace(model=second)}]))
        expected = {f"0.{name}": tensor for name, tensor in first.state_dict().items()}
        expected |= {f"1.deep.model.{name}": tensor for name, tensor in second.state_dict().items()}
        assert_same(found, expected)
        assert found.modules["0"].nonlinearity == "relu"

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_pickled_module_whose_class_is_gone(self, save, wrapped):
        gone = vanished(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        options = {'nonlinearity': 'relu', 'batch_first': True, 'bidirectional': True}\n"
            "        self.encoder = nn.RNN(3, 5, num_layers=2, **options)\n"
            "        self.cell = nn.RNNCell(10, 4, bias=False)\n"
            "        self.norm = nn.BatchNorm1d(4)\n"
            "        self.heads = nn.ModuleList([nn.Linear(4, 2)] * 2)\n"
            "        self.parent = [self]\n"
        )
        network = gone.Net()
        state = network.state_dict()
        path = save(nn.DataParallel(network) if wrapped else network)
        del sys.modules["vanished"]
        found = read_torch_file(path)
        prefix = "module." if wrapped else ""
        assert_same(found, {f"{prefix}{name}": tensor for name, tensor in state.items()})
        encoder, cell = found.modules[f"{prefix}encoder"], found.modules[f"{prefix}cell"]
        assert (encoder.kind, encoder.nonlinearity, encoder.batch_first, encoder.num_layers) == ("RNN", "relu", True, 2)
        assert (encoder.bidirectional, encoder.input_size, encoder.hidden_size, encoder.bias) == (True, 3, 5, True)
        assert (cell.kind, cell.nonlinearity, cell.bias, cell.batch_first) == ("RNN", "tanh", False, None)

    @pytest.mark.parametrize("kind", ["LSTM", "GRU", "LSTMCell", "GRUCell"])
    def test_gated_modules_are_named(self, save, kind):
        found = read_torch_file(save(getattr(nn, kind)(3, 4)))
        assert found.modules[""].kind == kind.removesuffix("Cell")
        assert found.modules[""].nonlinearity is None

    @pytest.mark.parametrize("kind", [SingleMatrixRNN, SingleMatrixRNNCell, TwoMatrixRNN])
    def test_this_package_s_own_modules(self, save, kind):
        network = kind(3, 4, nonlinearity="relu")
        found = read_torch_file(save(network))
        assert_same(found, network.state_dict())
        assert (found.modules[""].kind, found.modules[""].nonlinearity) == ("RNN", "relu")

    def test_an_old_module_says_it_by_its_mode(self, save):
        network = nn.RNN(3, 4, nonlinearity="relu")
        del network.nonlinearity  # torch before 1.5 kept the mode alone
        assert read_torch_file(save(network)).modules[""].nonlinearity == "relu"

    def test_what_shares_too_much_is_refused(self, tmp_path):
        state: dict[str, Any] = {"w": torch.zeros(3)}
        for _ in range(40):
            state = {"a": state, "b": state}
        torch.save(state, tmp_path / "a.pt")
        with pytest.raises(SourceError, match="repeat each other"):
            read_torch_file(tmp_path / "a.pt")

    def test_too_deep_is_said(self, save):
        state: Any = {"w": torch.zeros(3)}
        for _ in range(150):
            state = [state]
        found = read_torch_file(save({"deep": state, "v": torch.ones(2)}))
        assert list(found.tensors) == ["v"]
        assert any("100 levels" in note for note in found.notes)

    def test_two_tensors_of_one_name(self, save):
        with pytest.raises(SourceError, match=r"two of its tensors are named 'a\.b'"):
            read_torch_file(save({"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}))


class TestOtherFiles:
    @pytest.mark.filterwarnings("ignore")
    def test_programs_are_refused_by_name(self, tmp_path):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
        with pytest.raises(SourceError, match="TorchScript archive"):
            read_torch_file(tmp_path / "a.pt")
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), tmp_path / "b.pt2")
        with pytest.raises(SourceError, match=r"program of torch\.export"):
            read_torch_file(tmp_path / "b.pt2")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "pickle exhausted"),
            (b"hello", "pickle is damaged"),
            (hostile.number(7), "none of torch.save"),
            (hostile.number(hostile.MAGIC) + hostile.number(7), "protocol is not 1001"),
            (hostile.zipped({"a.txt": b"x"}), "without the data.pkl"),
            (hostile.zipped({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "without the data.pkl"),
            (hostile.zipped({"a/data.pkl": b"N.", "a/byteorder": b"middle"}), "byte order is b'middle'"),
            (hostile.zipped({"a/data.pkl": b"N." * 99}, zipfile.ZIP_DEFLATED), "compressed"),
            (hostile.tarred(storages=b"N."), "without the member 'tensors'"),
            (b"PK\x03\x04" + b"\0" * 99, "zip directory"),
        ],
    )
    def test_what_torch_did_not_save_is_refused_with_a_reason(self, tmp_path, content, reason):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(SourceError, match=reason):
            read_torch_file(tmp_path / "a.pt")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(SourceError, match="cannot be read: No such file"):
            read_torch_file(tmp_path / "a.pt")


def tensor_of(*args: object, storage: tuple[object, ...] = ("storage", None, "0", "cpu", 6)) -> bytes:
    """A pickle of one tensor over 6 floats, with any arguments at all."""
    kind = hostile.name("torch", "FloatStorage")
    pieces = [kind if part is None else hostile.body(part) for part in storage]
    reference = b"(" + b"".join(pieces) + b"tQ"
    rest = [hostile.body(arg) for arg in args] + [b"\x89", b"N"]
    return (
        b"}"
        + hostile.body("w")
        + hostile.called(hostile.name("torch._utils", "_rebuild_tensor_v2"), reference, *rest)
        + b"s."
    )


class TestHostileTensors:
    @pytest.mark.parametrize(
        "args",
        [
            (0, (7,), (1,)),
            (1, (6,), (1,)),
            (0, (2, 3), (4, 1)),
            (-1, (2,), (1,)),
            (5, (2,), (-1,)),
            (0, (-1,), (1,)),
            (0, (2**62,), (1,)),
            (0, (2**40, 2**40), (1, 1)),
            (2**70, (1,), (1,)),
            (0, (2,), (2**63,)),
            (0, (2, 3), (3,)),
            (0, (1,) * 99, (1,) * 99),
            (0, "ab", (1, 1)),
            (0, (True,), (1,)),
            (0, (1.0,), (1,)),
            (None, (1,), (1,)),
            (0, ((1,),), (1,)),
            (0, 3, 1),
            (0, (0, 2**62, 2**62), (1, 1, 1)),
        ],
    )
    def test_a_view_never_leaves_its_storage(self, tmp_path, args):
        members = {"x/data.pkl": tensor_of(*args), "x/data/0": bytes(24)}
        (tmp_path / "a.pt").write_bytes(hostile.zipped(members))
        with pytest.raises(SourceError, match="cannot be read"):
            read_torch_file(tmp_path / "a.pt")

    @pytest.mark.parametrize(
        "storage",
        [
            ("storage", None, "0", "cpu", 7),
            ("storage", None, "0", "cpu", 5),
            ("storage", None, "0", "cpu", 2**70),
            ("storage", None, "0", "cpu", -1),
            ("storage", None, "1", "cpu", 6),
            ("storage", None, 0, "cpu", 6),
            ("storage", None, "../data.pkl", "cpu", 6),
            ("storage", "FloatStorage", "0", "cpu", 6),
            ("storage", None, "0", "cpu", 6, ("v", 3, 4)),
            ("storage", None, "0", "cpu", 6, ("v", -1, 4)),
            ("storage", None, "0", "cpu", 6, "view"),
            ("storage", None),
            (),
            ("module", None, "0", "cpu", 6),
        ],
    )
    def test_a_storage_is_what_the_file_holds(self, tmp_path, storage):
        members = {"x/data.pkl": tensor_of(0, (6,), (1,), storage=storage), "x/data/0": bytes(24)}
        (tmp_path / "a.pt").write_bytes(hostile.zipped(members))
        with pytest.raises(SourceError, match="cannot be read"):
            read_torch_file(tmp_path / "a.pt")

    def test_expansion_and_repetition_are_bounded(self, tmp_path):
        members = {"x/data.pkl": tensor_of(0, (2**40,), (0,)), "x/data/0": bytes(24)}
        (tmp_path / "a.pt").write_bytes(hostile.zipped(members))
        found = read_torch_file(tmp_path / "a.pt")
        assert (found.tensors, list(found.remarks)) == ({}, ["w"])
        whole = torch.zeros(10_000)
        torch.save({f"w{index}": whole[:] for index in range(100)}, tmp_path / "b.pt")
        with pytest.raises(SourceError, match="more than 16 times"):
            read_torch_file(tmp_path / "b.pt")

    def test_archives_that_lie_about_sizes(self, tmp_path):
        honest = hostile.zipped({"x/data.pkl": b"}.", "x/data/0": bytes(100)})
        place = honest.index(b"PK\x01\x02", honest.index(b"PK\x01\x02") + 1)
        huge = bytearray(honest)
        huge[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
        twice = honest.replace(b"x/data/0", b"x/data.p").replace(b"x/data.pkl", b"x/data.p\0\0")
        crossed = honest.replace(b"x/data/0", b"y/data/0", 1)
        for content, reason in ((huge, "claim more"), (twice, "one name"), (crossed, "two names")):
            (tmp_path / "a.pt").write_bytes(content)
            with pytest.raises(SourceError, match=reason):
                read_torch_file(tmp_path / "a.pt")

    def test_a_tar_with_a_negative_size_ends(self, tmp_path):
        header = bytearray(hostile.tarred(storages=b"N.")[:512])
        header[124:136] = b"-0000001000\0"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "a.pt").write_bytes(header + bytes(1024))
        with pytest.raises(SourceError, match="cut off"):
            read_torch_file(tmp_path / "a.pt")


def small_files() -> dict[str, bytes]:
    torch.manual_seed(0)
    network = nn.RNN(3, 4, nonlinearity="relu", batch_first=True)
    files = {}
    for title, value in (("state_dict", network.state_dict()), ("module", network)):
        for kind, new in FORMATS.items():
            stream = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(value, stream, _use_new_zipfile_serialization=new)
            files[f"{title} {kind}"] = stream.getvalue()
    return files


SMALL = small_files()


def loaded(path: Path, content: bytes) -> tuple[Any, ...] | None:
    """(shapes, values, what it says of itself, notes), or None where the file is refused."""
    path.write_bytes(content)
    try:
        found = load_checkpoint(path)
    except SourceError:
        return None
    arrays = dict(found.weights)
    return str(found.weights.spec), {name: array.tobytes() for name, array in arrays.items()}, found.notes


class TestDamage:
    @pytest.mark.parametrize("title", SMALL)
    @given(data=st.data())
    @REPEATABLE
    def test_a_flipped_file_is_refused_or_its_damage_is_named(self, tmp_path_factory, title, data):
        path = tmp_path_factory.getbasetemp() / "flipped.pt"
        content = bytearray(SMALL[title])
        honest = loaded(path, SMALL[title])
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        found = loaded(path, content)
        if "zip" in title or found is None:
            assert found is None or found[:2] == honest[:2]  # every byte that matters has a checksum
        elif found[0] != honest[0]:
            assert found[2] != honest[2]
        else:
            assert any("no checksums" in note for note in found[2])

    @pytest.mark.parametrize("title", SMALL)
    def test_a_truncated_file_is_refused(self, tmp_path, title):
        content = SMALL[title]
        for length in range(0, len(content), max(1, len(content) // 400)):
            assert loaded(tmp_path / "cut.pt", content[:length]) is None, length

    def test_a_damaged_member_is_named(self, tmp_path):
        content = bytearray(SMALL["state_dict zip"])
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = next(info for info in archive.infolist() if info.filename.endswith("data/1"))
            start = content.index(archive.read(entry))
        content[start] ^= 1
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(SourceError, match="data/1' is damaged: the checksum does not fit"):
            read_torch_file(tmp_path / "a.pt")

    def test_numbers_that_no_tensor_holds_are_counted(self, tmp_path):
        path = tmp_path / "a.pt"
        torch.save({"a": torch.zeros(10)[:4]}, path, _use_new_zipfile_serialization=False)
        assert any("6 of 10 numbers in storage" in note for note in read_torch_file(path).notes)


class TestSpeed:
    def test_50_megabytes_take_less_than_a_second_and_no_copy(self, tmp_path):
        state = {f"layer{index}.weight": torch.randn(500, 500) for index in range(50)}
        for new in FORMATS.values():
            torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
            start = time.perf_counter()
            found = read_torch_file(tmp_path / "a.pt")
            seconds = time.perf_counter() - start
            assert_same(found, state)
            print(f"{(tmp_path / 'a.pt').stat().st_size / 1e6:.0f} MB in {seconds:.3f} s")
            assert seconds < 1

    def test_torch_is_not_imported(self, tmp_path):
        torch.save(nn.RNN(3, 4), tmp_path / "a.pt")
        script = (
            "import sys; from rnn_export import export; "
            f"export({str(tmp_path / 'a.pt')!r}, {str(tmp_path / 'out')!r}); "
            "print('torch' in sys.modules, 'pickle' in vars(sys.modules['rnn_export.unpickling']))"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == ["False", "False"], done.stderr


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there: set RNN_EXPORT_CHECKPOINTS to the folder of real checkpoints")
    return path


class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "digest", "shapes"),
        [
            (
                "flip_flop_net_6.pt",
                "f1915e57c36214c708c4eec02cb4d5ed6de39eacf9605b0137c232e50841f128",
                {
                    "rnn_layer.weight_ih_l0": (8, 3),
                    "rnn_layer.weight_hh_l0": (8, 8),
                    "rnn_layer.bias_ih_l0": (8,),
                    "rnn_layer.bias_hh_l0": (8,),
                    "output_layer.weight": (3, 8),
                    "output_layer.bias": (3,),
                },
            ),
            (
                "latifb_single_matrix_MIT.pth",
                "32df025b66a667a879be10acb9cdb29efc0c3c1041900d5c0f167b648b494eb9",
                {"i2h.weight": (128, 180), "i2h.bias": (128,), "i2o.weight": (18, 180), "i2o.bias": (18,)},
            ),
            (
                "spro_legacy_tar_MIT.pt",
                "bd0b50312581eaccf5dd1e38c6fe88c4f49aeab4a11f15b021959c1882ec7438",
                {"i2h.weight": (128, 180), "i2h.bias": (128,), "i2o.weight": (18, 180), "i2o.bias": (18,)},
            ),
        ],
    )
    def test_tensors(self, name, digest, shapes):
        path = shared(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        found = read_torch_file(path)
        assert {key: array.shape for key, array in found.tensors.items()} == shapes
        for array in found.tensors.values():
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
            assert 0.001 < np.abs(array).mean() < 10
        assert not any("damaged" in note for note in found.notes)

    def test_a_state_dict_is_what_torch_reads(self):
        path = shared("latifb_single_matrix_MIT.pth")
        assert_same(read_torch_file(path), torch.load(path, map_location="cpu", weights_only=True))

    def test_the_flip_flop_network_says_what_it_is(self):
        found = load_checkpoint(shared("flip_flop_net_6.pt"))
        assert str(found.weights.spec) == "RNN(3 -> 8, tanh, batch first)"
        assert any("the pickled torch.nn.modules.rnn.RNN says so" in note for note in found.notes)

    def test_the_legacy_tar_says_that_it_has_no_checksums(self):
        assert any("no checksums" in note for note in read_torch_file(shared("spro_legacy_tar_MIT.pt")).notes)

    def test_the_legacy_tar_in_pieces(self, tmp_path):
        content = shared("spro_legacy_tar_MIT.pt").read_bytes()
        for length in range(0, 224256 + 1023, 3001):
            (tmp_path / "a.pt").write_bytes(content[:length])
            with pytest.raises(SourceError, match="cannot be read"):
                read_torch_file(tmp_path / "a.pt")
