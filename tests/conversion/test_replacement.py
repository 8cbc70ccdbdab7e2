"""``exporting()``: what it makes of a model, what it refuses, and that it leaves nothing behind."""

import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.sym_node import SymNode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import rnn_export
from rnn_export.conversion.frozen_sizes import FrozenSizes
from rnn_export.errors import ConversionError, UsageError

T, B = 5, 3
TIME = {0: "T", 1: "B"}
AUTO = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
pytestmark = pytest.mark.filterwarnings("ignore:# The axis name")  # torch says so of every name that two inputs share
slow = pytest.mark.slow  # alone each takes 1 to 3 s; together they are a minute
each_form = pytest.mark.parametrize("form", ["rnn", pytest.param("scan", marks=slow)])
both_dynamic = pytest.mark.parametrize("dynamic", [TIME, pytest.param(AUTO, marks=slow)], ids=["names", "AUTO"])


class Model(nn.Module):
    """Any forward around one nn.RNN, one RNNCell and a convolution that halves the length."""

    def __init__(self, body: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = body
        self.rnn = nn.RNN(4, 8, **options)
        self.cell = nn.RNNCell(4, 8)
        self.halve = nn.Conv1d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.body(self, x) if y is None else self.body(self, x, y)

    def zeros(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[1], 8)


def sequence(T: int = T, B: int = B) -> Tensor:
    return torch.randn(T, B, 4, generator=torch.Generator().manual_seed(T))


def export(model: nn.Module, inputs: tuple[Tensor, ...], *shapes: Any, form: str = "rnn") -> onnx.ModelProto:
    with rnn_export.exporting(form):
        program = torch.onnx.export(model.eval(), inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    onnx.checker.check_model(program.model_proto, full_check=True)
    return program.model_proto


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_right(file: onnx.ModelProto, model: nn.Module, *inputs: Tensor) -> None:
    """To the rounding of well-behaved networks; the verdict with its residual is test_whole_model's."""
    session = onnxruntime.InferenceSession(file.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(model(*inputs))
    for ours, torchs in zip(found, expected, strict=True):
        assert (ours.shape, ours.dtype) == (torchs.shape, torchs.numpy().dtype)
        np.testing.assert_allclose(ours, torchs, rtol=0, atol=2e-6)


# What it makes of a model.


@pytest.mark.parametrize("form", ["rnn", "scan"])
@pytest.mark.parametrize("dynamic", [TIME, AUTO], ids=["names", "AUTO"])
def test_one_recurrent_node_per_layer_at_any_length(form: str, dynamic: Any) -> None:
    model = Model(lambda self, x: self.rnn(x), num_layers=2)
    file = export(model, (sequence(),), dynamic, form=form)
    assert operators(file).count({"rnn": "RNN", "scan": "Scan"}[form]) == 2
    for size in ((9, 2), (1, 1), (33, 5)):
        assert_right(file, model, sequence(*size))


def test_a_layer_without_h_0_is_the_operator_and_its_squeeze() -> None:
    assert operators(export(Model(lambda self, x: self.rnn(x)), (sequence(),), TIME)) == ["RNN", "Squeeze"]


@each_form
def test_every_argument_of_nn_rnn(form: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "nonlinearity": "relu", "bias": False}
    model = Model(lambda self, x, h_0: self.rnn(input=x, hx=h_0), dropout=0.5, **options)
    turned = {0: "B", 1: "T"}
    inputs = [(sequence(*size).transpose(0, 1), torch.rand(4, size[1], 8)) for size in ((T, B), (9, 2))]
    assert_right(export(model, inputs[0], turned, {1: "B"}, form=form), model, *inputs[1])


def test_a_model_that_is_an_rnn_itself_keeps_its_input_names() -> None:
    model = nn.RNN(4, 8)
    file = export(model, (sequence(), torch.rand(1, B, 8)), TIME, {1: "B"})
    assert [value.name for value in file.graph.input] == ["input", "hx"]
    assert_right(file, model, sequence(9, 2), torch.rand(1, 2, 8))


@each_form
def test_an_unbatched_sequence(form: str) -> None:
    model = Model(lambda self, x: self.rnn(x))
    assert_right(export(model, (sequence()[:, 0],), {0: "T"}, form=form), model, sequence(9)[:, 0])


@each_form
@pytest.mark.parametrize("batch_first", [False, pytest.param(True, marks=slow)])
def test_a_packed_sequence_unsorted_and_trimmed_to_the_longest(form: str, batch_first: bool) -> None:
    def body(self: Model, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
        packed = packed._replace(data=torch.tanh(packed.data))
        output, h_n = self.rnn(packed)
        return *pad_packed_sequence(output, batch_first=batch_first, padding_value=-1.0), h_n

    model = Model(body, num_layers=2, bidirectional=True, batch_first=batch_first)

    def inputs(T: int, *lengths: int) -> tuple[Tensor, Tensor]:
        x = sequence(T, len(lengths))
        return (x.transpose(0, 1).contiguous() if batch_first else x), torch.tensor(lengths)

    file = export(model, inputs(5, 2, 5, 3), {int(batch_first): "T", 1 - batch_first: "B"}, {0: "B"}, form=form)
    assert_right(file, model, *inputs(9, 4, 7))  # 9 steps came in, the longest sequence has 7
    assert_right(file, model, *inputs(6, 1, 6, 2, 6, 5))
    x, lengths = inputs(6, 2, 6)
    padded = x.clone()
    (padded.transpose(0, 1) if batch_first else padded)[2:, 0] = torch.nan  # the padding of the first sequence
    names = [value.name for value in file.graph.input]
    session = onnxruntime.InferenceSession(file.SerializeToString())
    clean, dirty = (session.run(None, dict(zip(names, (a.numpy(), lengths.numpy()), strict=True))) for a in (x, padded))
    for left, right in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("total", [None, 7])
def test_padding_to_a_total_length(total: int | None) -> None:
    def body(self: Model, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths)
        return pad_packed_sequence(self.rnn(packed)[0], total_length=total or x.shape[0])[0]

    model = Model(body)
    file = export(model, (sequence(), torch.tensor([4, 3, 1])), TIME, {0: "B"})
    assert_right(file, model, sequence(6, 2), torch.tensor([4, 1]))


def test_the_indices_of_a_packed_sequence_are_those_of_an_unsorted_batch() -> None:
    def body(self: Model, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        again = PackedSequence(packed.data * 2, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return self.rnn(again)[1]

    model = Model(body)
    file = export(model, (sequence(), torch.tensor([1, 5, 3])), TIME, {0: "B"})
    assert_right(file, model, sequence(8, 2), torch.tensor([3, 8]))


@each_form
def test_through_torch_export(form: str) -> None:
    model = Model(lambda self, x: self.rnn(x)[0], num_layers=2).eval()
    shapes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("B")},)
    with rnn_export.exporting(form):
        program = torch.export.export(model, (sequence(),), dynamic_shapes=shapes)
    assert_right(torch.onnx.export(program, verbose=False).model_proto, model, sequence(9, 2))


def test_float64_as_scan() -> None:
    model = Model(lambda self, x: self.rnn(x)).double()
    file = export(model, (sequence().double(),), TIME, form="scan")
    session = onnxruntime.InferenceSession(file.SerializeToString())
    found = session.run(None, {"x": sequence(9, 2).double().numpy()})[0]
    np.testing.assert_allclose(found, model(sequence(9, 2).double())[0].detach(), rtol=0, atol=1e-15)


@each_form
def test_an_example_of_one_row_or_of_equal_sizes_freezes_nothing(form: str) -> None:
    model = Model(lambda self, x: self.rnn(x))
    for example in ((5, 1), (4, 4)):
        assert_right(export(model, (sequence(*example),), TIME, form=form), model, sequence(9, 2))


@slow
def test_an_earlier_export_of_a_constant_size_freezes_nothing() -> None:
    model = Model(lambda self, x: self.rnn(x))
    for dynamic in ({0: "T"}, {1: "B"}):
        export(model, (sequence(),), dynamic, form="scan")
    assert_right(export(model, (sequence(),), AUTO, form="scan"), model, sequence(9, 2))


def test_a_fixed_number_of_steps_is_drawn_as_written() -> None:
    def body(self: Model, x: Tensor) -> Tensor:
        h = self.rnn(x)[1][0]
        for _ in range(4):
            h = self.cell(x[0], h)
        return h

    model = Model(body)
    file = export(model, (sequence(),), TIME)
    assert operators(file).count("Tanh") == 4
    assert_right(file, model, sequence(9, 2))


# What it refuses: by name, with the reason and what to do instead.


def ranged(self: Model, x: Tensor) -> Tensor:
    h = self.zeros(x)
    for t in range(x.shape[0]):
        h = self.cell(x[t], h)
    return h


def iterated(self: Model, x: Tensor) -> Tensor:
    h = self.zeros(x)
    for x_t in x:
        h = self.cell(x_t, h)
    return h


def counted(self: Model, x: Tensor) -> Tensor:
    h, t = self.zeros(x), 0
    while t < x.shape[0]:
        h = self.cell(x[t], h)
        t += 1
    return h


def by_hand(self: Model, x: Tensor) -> Tensor:
    h = self.zeros(x)
    for x_t in x.unbind(0):
        h = torch.tanh(x_t @ self.cell.weight_ih.T + h @ self.cell.weight_hh.T)
    return h


def after_stride(self: Model, x: Tensor) -> Tensor:
    return ranged(self, self.halve(x.permute(1, 2, 0)).permute(2, 0, 1))


LOOPS = {ranged: "for t in range", iterated: "for x_t in x", by_hand: "for x_t in x.unbind", after_stride: "for t in"}


def line_of(function: Callable[..., Any], text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("dynamic", [TIME, AUTO], ids=["names", "AUTO"])
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_over_time_is_refused_with_its_line(loop: Callable[..., Any], dynamic: Any) -> None:
    line = line_of(ranged if loop is after_stride else loop, LOOPS[loop])
    with pytest.raises(ConversionError, match=rf"test_replacement.py:{line}: .*cell \(RNNCell\) per step.*over_time"):
        export(Model(loop), (sequence(),), dynamic)


@pytest.mark.parametrize("file", ["<stdin>", "<string>", "<ipython-input-1>"])
@both_dynamic
def test_code_that_is_in_no_file_is_the_users_too(file: str, dynamic: Any) -> None:
    source = (
        "def body(self, x):\n    h = x[0]\n    for t in range(x.shape[0] // 2):\n        h = h + x[t]\n    return h"
    )
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), made)  # noqa: S102 - a shell does just this
    with pytest.raises(ConversionError, match=f"^{file}:3 makes a dynamic size the example's 2"):
        export(Model(made["body"]), (sequence(),), dynamic)


def test_a_number_that_torch_computes_of_a_size_is_refused_unless_it_is_the_same_for_all() -> None:
    steps = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.zeros(6, 3)).shape[0]
    in_the_exporter = compile("see_number(size.node)", f"{Path(torch.__file__).parent}/onnx/made.py", "eval")

    def seen(size: Any) -> FrozenSizes:
        sizes = FrozenSizes()
        eval(in_the_exporter, {"see_number": sizes.see_number, "size": size})  # noqa: S307
        return sizes

    seen(torch.sym_min(steps, 2)).check()  # a dynamic size is at least 2
    for size in (steps, steps // 2, steps - 1):
        with pytest.raises(ConversionError, match="torch itself freezes a dynamic size"):
            seen(size).check()


@both_dynamic
def test_a_while_loop_is_refused_at_its_cell(dynamic: Any) -> None:
    with pytest.raises(ConversionError, match=rf"test_replacement.py:{line_of(counted, 'self.cell(')}: .*over_time"):
        export(Model(counted), (sequence(),), dynamic)


@both_dynamic
@pytest.mark.parametrize("body", [ranged, iterated, lambda self, x: self.rnn(x)], ids=["range", "iter", "nn.RNN"])
def test_an_example_of_one_step_is_refused(body: Callable[..., Any], dynamic: Any) -> None:
    with pytest.raises(ConversionError, match="the example"):
        export(Model(body), (sequence(1),), dynamic)


def test_a_model_of_one_step_is_no_example_of_one_step() -> None:
    model = Model(lambda self, x: self.rnn(x[:1])[0])
    assert_right(export(model, (sequence(),), TIME), model, sequence(9, 2))


LENGTHS = torch.tensor([5, 3, 2])
PACKED = pack_padded_sequence(torch.zeros(5, 3, 4), LENGTHS)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (lambda self, x: self.rnn(pack_padded_sequence(x, [5, 3, 2]))[1], "lengths as a list.*tensor"),
        (lambda self, x: self.rnn(pack_sequence([x[:, 0], x[:4, 1]]))[1], "lengths as a list|makes a dynamic size"),
        (lambda self, x: self.rnn(pack_padded_sequence(x, LENGTHS))[1], "constant of size 3.*input of the model"),
        (lambda self, x: self.rnn(PACKED)[1], "packed before the export began.*inside the model"),
        (lambda self, x: self.rnn(x, torch.zeros(1, 3, 8)), "h_0 has a fixed batch of 3"),
        (lambda self, x: self.rnn(x, x.new_zeros(1, int(x.shape[1]), 8)), r"makes a dynamic size.*leave out int\(\)"),
    ],
    ids=["list", "pack_sequence", "constant", "packed before", "h_0", "int"],
)
@both_dynamic
def test_what_would_freeze_is_refused(body: Callable[..., Any], says: str, dynamic: Any) -> None:
    with pytest.raises(ConversionError, match=says):
        export(Model(body), (sequence(),), dynamic)


def test_lengths_made_a_list_inside_the_model_are_refused_with_their_line() -> None:
    def body(self: Model, x: Tensor, lengths: Tensor) -> Tensor:
        return self.rnn(pack_padded_sequence(x, lengths.tolist(), enforce_sorted=False))[1]

    with pytest.raises(ConversionError, match=rf"test_replacement.py:{line_of(body, 'tolist')}: .*tolist"):
        export(Model(body), (sequence(), LENGTHS), TIME, {0: "B"})


@slow
@pytest.mark.filterwarnings("ignore")  # torch warns of its own decompositions
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
@both_dynamic
def test_what_torch_itself_freezes_is_refused(layer: type[nn.RNNBase], dynamic: Any) -> None:
    model = Model(lambda self, x: (self.other(x)[0], self.rnn(x)[0]))
    model.other = layer(4, 8)
    line = rf"torch's {layer.__name__} at test_replacement\.py:\d+: `model = .*self\.other.*"
    with pytest.raises(
        ConversionError, match=rf"{line} freezes a dynamic size at the example's 5.*nn\.LSTM and nn\.GRU"
    ):
        export(model, (sequence(),), dynamic)


def test_a_packed_sequence_into_another_layer_is_refused() -> None:
    model = Model(lambda self, x, lengths: self.other(pack_padded_sequence(x, lengths))[1])
    model.other = nn.GRU(4, 8)
    with pytest.raises(ConversionError, match="GRU with a packed sequence"):
        export(model, (sequence(), LENGTHS), TIME, {0: "B"})


def on_rows(work: Callable[[Model, Tensor], Tensor]) -> Model:
    """``work`` on the data of a packed output, which goes on packed."""

    def body(self: Model, x: Tensor, lengths: Tensor) -> Tensor:
        packed = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
        return pad_packed_sequence(packed._replace(data=work(self, packed.data)))[0]

    return Model(body)


@pytest.mark.parametrize(
    "work",
    [
        lambda self, y: y.mean(0, keepdim=True) + y,
        lambda self, y: y - y.mean(),
        lambda self, y: torch.cumsum(y, 0),
        lambda self, y: y.log_softmax(1),
        lambda self, y: torch.cat([y, y]),
        lambda self, y: y * y[0],
        lambda self, y: y / y.shape[0],
        lambda self, y: y * y.relu().amax(dim=0),
        lambda self, y: y.T.T,
        lambda self, y: y.size(0) * y,
    ],
    ids=["mean 0", "mean", "cumsum", "axis 1", "cat", "index", "shape", "later", "T", "size"],
)
def test_what_would_mix_the_rows_of_packed_data_is_refused_with_its_line(work: Callable[..., Any]) -> None:
    line = inspect.getsourcelines(work)[1]
    with pytest.raises(ConversionError, match=rf"test_replacement.py:{line}: .*on the data of a packed.*pad_packed"):
        export(on_rows(work), (sequence(), torch.tensor([2, 5, 3])), TIME, {0: "B"})


def test_packed_data_as_an_unbatched_sequence_are_refused() -> None:
    model = Model(lambda self, x, lengths: self.rnn(pack_padded_sequence(x, lengths).data)[0])
    with pytest.raises(ConversionError, match=r"test_replacement\.py:\d+: .*nn\.RNN on the data of a packed sequence"):
        export(model, (sequence(), LENGTHS), TIME, {0: "B"})


def test_what_works_on_each_row_of_packed_data_is_drawn() -> None:
    def work(self: Model, y: Tensor) -> Tensor:
        y = nn.functional.dropout(nn.functional.gelu(1 - y), training=self.training) @ self.cell.weight_hh
        y = nn.functional.layer_norm(nn.functional.linear(y, self.cell.weight_hh), (8,)).to(y.dtype)
        return torch.cat([y.log_softmax(-1), y.clamp(max=0.5) ** 2 * y.mean(-1, keepdim=True)], dim=-1)

    def body(self: Model, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        total = x.sum(0)  # of the model's own tensor, which is no packed data
        assert packed.data.dtype == x.dtype
        return on_rows(work).body(self, x, lengths), total

    model = Model(body)
    file = export(model, (sequence(), torch.tensor([2, 5, 3])), TIME, {0: "B"})
    assert_right(file, model, sequence(9, 2), torch.tensor([4, 9]))


def test_training_with_dropout_between_layers_is_refused() -> None:
    model = Model(lambda self, x: self.rnn(x), num_layers=2, dropout=0.5).train()
    with pytest.raises(ConversionError, match=r"training mode.*model\.eval\(\)"), rnn_export.exporting():
        torch.export.export(model, (sequence(),), dynamic_shapes=(AUTO,))


def test_float64_as_the_operator_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"float32 in ONNX Runtime.*--form scan.*form='scan', or model\.float"):
        export(Model(lambda self, x: self.rnn(x)).double(), (sequence().double(),), TIME)


def test_float16_as_the_operator_is_not_sent_to_a_form_that_nothing_verifies() -> None:
    with pytest.raises(ConversionError, match=r"is torch\.float16\. Use model\.float\(\)$"):
        export(Model(lambda self, x: self.rnn(x)).half(), (sequence().half(),), TIME)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_exporters_are_refused() -> None:
    model = Model(lambda self, x: self.rnn(x)).eval()
    with pytest.raises(ConversionError, match="Leave out strict=True"), rnn_export.exporting():
        torch.export.export(model, (sequence(),), dynamic_shapes=(AUTO,), strict=True)
    with pytest.raises(ConversionError, match="Leave out dynamo=False"), rnn_export.exporting():
        torch.onnx.export(model, (sequence(),), "/dev/null", dynamo=False, verbose=False)


def test_shapes_that_do_not_fit_are_torchs_error() -> None:
    for body in (lambda self, x: self.rnn(x[..., :3]), lambda self, x: self.rnn(x, x.new_zeros(2, x.shape[1], 8))):
        with pytest.raises(Exception, match=r"takes an input of 4|takes h_0"):
            export(Model(body), (sequence(),), TIME)


def test_a_form_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no form 'loop'.*rnn, scan"), rnn_export.exporting("loop"):
        pass


# What it leaves behind: nothing.


def patched() -> list[Any]:
    functions = (pack_padded_sequence.__code__, pad_packed_sequence.__code__, SymNode.guard_int)
    return [*functions, *(layer.forward for layer in (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell)), torch.is_grad_enabled()]


@pytest.mark.parametrize("body", [lambda self, x: self.rnn(x), ranged, lambda self, x: 1 / 0])
def test_everything_is_restored_even_after_an_error(body: Callable[..., Any]) -> None:
    before = patched()
    with suppress(ConversionError, torch.onnx.OnnxExporterError):
        export(Model(body), (sequence(),), TIME)
    assert patched() == before


def test_an_error_of_the_model_is_not_hidden() -> None:
    with pytest.raises(torch.onnx.OnnxExporterError, match="ZeroDivisionError"):
        export(Model(lambda self, x: self.rnn(x[..., : 1 // 0])), (sequence(),), TIME)
    with pytest.raises(KeyError, match="mine"), rnn_export.exporting():
        raise KeyError("mine")


def test_the_model_is_as_it_was_and_training_goes_on() -> None:
    model = Model(lambda self, x: self.rnn(x)[0], num_layers=2, dropout=0.5)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: set(vars(part)) for name, part in model.named_modules()}
    before = model.eval()(sequence())
    for form in ("rnn", "scan"):
        export(model, (sequence(),), TIME, form=form)
    assert torch.equal(model(sequence()), before)
    assert {name: set(vars(part)) for name, part in model.named_modules()} == attributes
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(sequence()).pow(2).sum().backward()
    optimizer.step()
    assert not torch.equal(model.eval()(sequence()), before)


def test_eager_use_inside_is_torchs_own() -> None:
    model = Model(lambda self, x, n: self.rnn(pack_padded_sequence(x, n))[1]).eval()
    with torch.no_grad():
        expected = model(sequence(), LENGTHS)
        with rnn_export.exporting():
            assert torch.equal(model(sequence(), LENGTHS), expected)


def test_two_inside_one_another_are_refused() -> None:
    with pytest.raises(UsageError, match="already on"), rnn_export.exporting(), rnn_export.exporting():
        pass
    assert export(Model(lambda self, x: self.rnn(x)), (sequence(),), TIME)


def test_two_threads_take_turns_and_a_third_trains_on() -> None:
    inside: list[str] = []
    overlaps: list[str] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def exporter(form: str) -> None:
        model = Model(lambda self, x: self.rnn(x))
        for _ in range(2):
            with rnn_export.exporting(form):
                overlaps.extend(inside)
                inside.append(form)
                program = torch.onnx.export(model.eval(), (sequence(),), dynamic_shapes=(TIME,), verbose=False)
                inside.remove(form)
            assert {"rnn": "RNN", "scan": "Scan"}[form] in operators(program.model_proto)

    def trainer() -> None:
        def body(self: Model, x: Tensor, n: Tensor) -> Tensor:
            return pad_packed_sequence(self.rnn(pack_padded_sequence(x, n))[0])[0]

        model = Model(body)
        expected = model(sequence(), LENGTHS)
        while not done.is_set():
            found = model(sequence(), LENGTHS)
            found.sum().backward()
            assert torch.equal(found, expected)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        return run

    training = threading.Thread(target=guarded(trainer))
    exports = [threading.Thread(target=guarded(lambda form=form: exporter(form))) for form in ("rnn", "scan")]
    for thread in (training, *exports):
        thread.start()
    for thread in exports:
        thread.join()
    done.set()
    training.join()
    assert errors == []
    assert overlaps == []
