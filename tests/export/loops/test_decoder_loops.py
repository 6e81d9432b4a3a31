"""Decoders that loop T times over their own output, behind an encoder of torch's or one that is a loop itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import FrozenAxisError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx

from .looped_modules import H, I

pytestmark = pytest.mark.long


class Decoder(nn.Module):
    """From the encoder's last state and a first input of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec, self.fc = nn.LSTMCell(I, H), nn.LSTMCell(I, H), nn.Linear(H, I)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = c = torch.zeros(x.size(0), H)
        for step in x.unbind(1):
            h, c = self.enc(step, (h, c))
        return h, c

    def decode(self, x: Tensor) -> list[Tensor]:
        h, c = self.encode(x)
        said, outputs = torch.zeros_like(x[:, 0]), []
        for _ in range(x.size(1)):
            h, c = self.dec(said, (h, c))
            said = self.fc(h)
            outputs.append(said)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(self.decode(x), 1)


class Backwards(Decoder):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(self.decode(x)[::-1], 1)


class Flipped(Decoder):
    def forward(self, x: Tensor) -> Tensor:
        return torch.flip(torch.stack(self.decode(x), 1), [1])


class BehindLayers(Decoder):
    """The encoder is torch's; of its two layers the last is read."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(I, H, num_layers=2, batch_first=True)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, (h, c) = self.layers(x)
        return h[-1], c[-1]


class AnswersFirst(Decoder):
    """One cell for both; the last state answers before the decoder has run; filled in place."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = self.encode(x)
        outputs = torch.zeros_like(x)
        for t in range(x.size(1)):
            said = self.fc(h)
            outputs[:, t] = said
            h, c = self.enc(said, (h, c))
        return outputs


class FedWithTheLast(Decoder):
    """What the padding holds is what a shorter row would begin with, so there can be no lengths."""

    def decode(self, x: Tensor) -> list[Tensor]:
        h, c = self.encode(x)
        said, outputs = x[:, -1], []
        for _ in range(x.size(1)):
            h, c = self.dec(said, (h, c))
            said = self.fc(h)
            outputs.append(said)
        return outputs


class LayersStepByStep(nn.Module):
    """Both are torch's layers, the decoder called for one step at a time; steps before rows."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec, self.fc = nn.GRU(I, H), nn.GRU(I, H), nn.Linear(H, I)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.enc(x)
        said, outputs = torch.zeros(1, x.size(1), I), []
        for _ in range(x.size(0)):
            y, h = self.dec(said, h)
            said = self.fc(y)
            outputs.append(said)
        return torch.cat(outputs)


class CellOverLayers(nn.Module):
    """No decoder: a loop over what torch's layer gave."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.GRU(I, H, batch_first=True, bidirectional=True), nn.LSTMCell(2 * H, H)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), H)
        outputs = []
        for step in self.low(x)[0].unbind(1):
            h, c = self.high(step, (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1)


AGAIN = pytest.mark.no_cover


@pytest.mark.covering("backwards")
@pytest.mark.parametrize(
    ("make", "operators", "ragged"),
    [
        pytest.param(Decoder, ["LSTM", "Scan"], True, id="two-loops", marks=AGAIN),
        pytest.param(Backwards, ["LSTM", "Scan"], True, id="backwards"),
        pytest.param(Flipped, ["LSTM", "Scan"], True, id="flipped", marks=AGAIN),
        pytest.param(BehindLayers, ["LSTM", "LSTM", "Scan"], True, id="behind-layers"),
        pytest.param(AnswersFirst, ["LSTM", "Scan"], True, id="answers-first", marks=AGAIN),
        pytest.param(FedWithTheLast, ["LSTM", "Scan"], False, id="fed-with-the-last", marks=AGAIN),
        pytest.param(LayersStepByStep, ["GRU", "Scan"], True, id="layers-step-by-step"),
        pytest.param(CellOverLayers, ["GRU", "GRU", "LSTM"], True, id="cell-over-layers"),
    ],
)
def test_loop_beside_an_encoder_is_exported(
    exported: Any, make: Callable[[], nn.Module], operators: list[str], ragged: bool
) -> None:
    module = make().eval()

    graph = exported(module)

    assert [layer.operator for layer in graph.exportable.layers] == operators
    signature = graph.exportable.signature
    assert (signature.lengths is not None) == ragged
    for lengths in ([19, 8, 1, 2], [1], [11, 11]) if ragged else ([19] * 4, [1], [11] * 2):
        tensors = graph.exportable.example(len(lengths), max(lengths))
        given = {spec.name: torch.zeros_like(t) for spec, t in zip(signature.inputs, tensors, strict=True)}
        given["x"] = tensors[0]
        if ragged:
            given["lengths"] = torch.tensor(lengths, dtype=torch.int32)
        y, *_ = graph.run(*(tensor.numpy() for tensor in given.values()))
        for row, count in enumerate(lengths):
            alone = tensors[0][row : row + 1, :count]
            with torch.no_grad():
                expected = module(alone.transpose(0, 1))[:, 0] if make is LayersStepByStep else module(alone)[0]
            assert float(np.abs(expected.numpy() - y[row, :count]).max()) < 2e-6


class Counted(Decoder):
    """Each step of the decoder knows its number."""

    def decode(self, x: Tensor) -> list[Tensor]:
        return [said * (t + 1) for t, said in enumerate(super().decode(x))]


class TwoStepsBack(Decoder):
    """Reads the sum of its last two answers."""

    def decode(self, x: Tensor) -> list[Tensor]:
        h, c = self.encode(x)
        outputs = [torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])]
        for _ in range(x.size(1)):
            h, c = self.dec(outputs[-1] + outputs[-2], (h, c))
            outputs.append(self.fc(h))
        return outputs[2:]


class OneFewer(Decoder):
    """Answers for all steps but one."""

    def decode(self, x: Tensor) -> list[Tensor]:
        return super().decode(x)[1:]


@pytest.mark.no_cover
@pytest.mark.parametrize("make", [Counted, TwoStepsBack, OneFewer])
def test_decoder_whose_steps_differ_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"depends on how many steps there are|not do the same in every"):
        prepare(make())


@pytest.mark.no_cover
def test_loop_beside_a_layer_that_cannot_be_rolled_up_is_told_as_before() -> None:
    class Both(Counted, BehindLayers):
        pass

    with pytest.raises(FrozenAxisError, match=r"freezes the time to .*loop over time in a cell"):
        export_onnx(prepare(Both()))
