"""Models as people write them around nn.RNN, each with its inputs at any length and batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_export

Inputs = Callable[[int, int], tuple[Any, ...]]  # (T, B) -> the arguments of forward


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: of the model.
        make: builds it.
        inputs: the arguments of ``forward`` at any (T, B).
        dynamic_shapes: where an input has a length of its own; otherwise the inputs tell.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Inputs

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make().eval()


def features(T: int, B: int, size: int = 6) -> Tensor:
    return torch.randn(T, B, size)


def falling_lengths(T: int, B: int) -> Tensor:
    return torch.linspace(T, 1, B).round().long().clamp(min=1)


def unsorted_lengths(T: int, B: int) -> Tensor:
    return falling_lengths(T, B).roll(1)


class Tagger(nn.Module):
    """A label for every token: ids (B, T) -> logits (B, T, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.rnn = nn.RNN(8, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


class PooledClassifier(nn.Module):
    """One label for a sequence, from the mean and the maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 12, num_layers=2)
        self.out = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[0]
        return self.out(torch.cat([states.mean(0), states.max(0).values], -1)).log_softmax(-1)


class EncoderDecoder(nn.Module):
    """A sequence into another, with the target given: the decoder starts from the encoder's last state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.RNN(6, 10, num_layers=2)
        self.decoder = nn.RNN(4, 10, num_layers=2)
        self.out = nn.Linear(10, 7)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.out(self.decoder(target, self.encoder(source)[1])[0])


class StridedSpeech(nn.Module):
    """A convolution that halves the frames, then an RNN: audio features (B, 6, T) -> (T/2, B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 3, stride=2, padding=1)
        self.rnn = nn.RNN(8, 12, nonlinearity="relu", bidirectional=True)
        self.out = nn.Linear(24, 5)

    def forward(self, frames: Tensor) -> Tensor:
        return self.out(self.rnn(self.conv(frames).relu().permute(2, 0, 1))[0])


class AttentionPooling(nn.Module):
    """Attention over the RNN's outputs, with the weights as a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 12, batch_first=True)
        self.score = nn.Linear(12, 1)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.rnn(x)
        weights = self.score(torch.tanh(states)).softmax(1)  # (B, T, 1)
        return self.out((weights * states).sum(1)), weights.squeeze(-1)


class StackedSizes(nn.Module):
    """Three RNNs of different sizes with layer norms between them, and a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.back = nn.RNN(6, 16), nn.RNN(16, 5), nn.RNN(5, 6, nonlinearity="relu")
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(5)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](self.wide(x)[0])
        y = self.norms[1](self.narrow(y)[0])
        return x + self.back(y)[0]


class BidirectionalDropout(nn.Module):
    """Two layers in both directions with dropout, read at the last states of both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 10, num_layers=2, dropout=0.5, bidirectional=True, batch_first=True)
        self.out = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 4))

    def forward(self, x: Tensor) -> Tensor:
        h_n = self.rnn(x)[1]
        return self.out(torch.cat([h_n[-2], h_n[-1]], -1))


class TwoHeads(nn.Module):
    """One trunk, a label for every step and one for the whole, as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.RNN(6, 12, num_layers=2, bias=False)
        self.steps, self.whole = nn.Linear(12, 5), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        states, h_n = self.trunk(x)
        return {"steps": self.steps(states), "whole": self.whole(h_n[-1])}


class PackedTagger(nn.Module):
    """Packed and padded again, the lengths in any order, trimmed to the longest."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(20, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(states)


class PackedClassifier(nn.Module):
    """Only the last states of a packed batch, sorted by length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(20, 6), nn.RNN(6, 10), nn.Linear(10, 3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(ids), lengths)
        return self.out(self.rnn(packed)[1][-1])


class LastStep(nn.Module):
    """The state after the last step, as forecasts are made."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(6, 12, nonlinearity="relu", batch_first=True), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


class GreedyDecoder(nn.Module):
    """Six tokens, each fed back: a fixed number of steps, drawn as written."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.embed = nn.RNN(6, 10), nn.Embedding(9, 5)
        self.cell, self.out = nn.RNNCell(5, 10), nn.Linear(10, 9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)[1][0]
        token = h.new_zeros(h.shape[0], dtype=torch.int64)
        tokens, logits = [], []
        for _ in range(6):
            h = self.cell(self.embed(token), h)
            logits.append(self.out(h))
            token = logits[-1].argmax(-1)
            tokens.append(token)
        return torch.stack(logits), torch.stack(tokens)


class Streaming(nn.Module):
    """A chunk of a stream: the state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(6, 12, num_layers=2), nn.Linear(12, 3)

    def forward(self, x: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
        states, h_n = self.rnn(x, h_0)
        return self.out(states), h_n


class OnlyOutput(nn.RNN):
    """nn.RNN for nn.Sequential, as a subclass."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), OnlyOutput(8, 10), nn.ReLU(), OnlyOutput(10, 7), nn.Linear(7, 2))


class Siamese(nn.Module):
    """One RNN for two sequences, and their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 12)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.rnn(left)[1][0] - self.rnn(right)[1][0]).norm(dim=-1)


class AttentionDecoder(nn.Module):
    """An attention decoder with a cell of its own, its loop written with over_time."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.RNN(6, 10, bidirectional=True)
        self.cell, self.query, self.out = nn.RNNCell(4 + 20, 10), nn.Linear(10, 20), nn.Linear(30, 7)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        encoded, h_n = self.encoder(source)

        def step(h: Tensor, y_t: Tensor) -> tuple[Tensor, Tensor]:
            weights = (encoded * self.query(h)).sum(-1).softmax(0)  # (S, B)
            context = (weights.unsqueeze(-1) * encoded).sum(0)
            h = self.cell(torch.cat([y_t, context], -1), h)
            return h, self.out(torch.cat([h, context], -1))

        return rnn_export.over_time(step, h_n[0], target)[0]


class MaskedMean(nn.Module):
    """Padded again to the whole length, and the mean over each sequence's own steps."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(6, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], total_length=x.shape[0])
        return self.out(states.sum(0) / lengths.unsqueeze(1))


ZOO = [
    Entry("tagger", Tagger, lambda T, B: (torch.randint(20, (B, T)),)),
    Entry("classifier with pooling", PooledClassifier, lambda T, B: (features(T, B),)),
    Entry("encoder-decoder", EncoderDecoder, lambda T, B: (features(T, B), features(T + 2, B, 4))),
    Entry("strided CNN + RNN", StridedSpeech, lambda T, B: (torch.randn(B, 6, T),)),
    Entry("attention pooling", AttentionPooling, lambda T, B: (torch.randn(B, T, 6),)),
    Entry("stacked sizes", StackedSizes, lambda T, B: (features(T, B),)),
    Entry("bidirectional with dropout", BidirectionalDropout, lambda T, B: (torch.randn(B, T, 6),)),
    Entry("two heads", TwoHeads, lambda T, B: (features(T, B),)),
    Entry("packed, unsorted", PackedTagger, lambda T, B: (torch.randn(B, T, 6), unsorted_lengths(T, B))),
    Entry("packed, last state", PackedClassifier, lambda T, B: (torch.randint(20, (T, B)), falling_lengths(T, B))),
    Entry("last step only", LastStep, lambda T, B: (torch.randn(B, T, 6),)),
    Entry("greedy decoder, 6 steps", GreedyDecoder, lambda T, B: (features(T, B),)),
    Entry("streaming state", Streaming, lambda T, B: (features(T, B), torch.randn(2, B, 12))),
    Entry("subclass in Sequential", sequential, lambda T, B: (features(T, B),)),
    Entry("siamese, shared", Siamese, lambda T, B: (features(T, B), features(T + 3, B))),
    Entry("attention decoder, over_time", AttentionDecoder, lambda T, B: (features(T, B), features(T + 1, B, 4))),
    Entry("masked mean", MaskedMean, lambda T, B: (features(T, B), unsorted_lengths(T, B))),
]
