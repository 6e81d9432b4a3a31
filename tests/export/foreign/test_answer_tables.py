"""Modules whose answer is a table, [B, K, O] or [B, T, K, O], as forecasts of several steps ahead give."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from cellgate.export.errors import AnswerError, SignatureError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.onnx_source import export_onnx_file, load_onnx, verify_onnx
from cellgate.export.options import ExportOptions
from cellgate.export.proof.verify import VerifyOptions

from ..onnx_files import save, value, weight

pytestmark = pytest.mark.long

I, H, K, O = 3, 6, 5, 2


class Forecast(nn.Module):
    """K steps ahead, O numbers each, from the last step."""

    batch_first = True

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes or (K, O)
        self.rnn = nn.LSTM(I, H, batch_first=self.batch_first)
        self.head = nn.Linear(H, int(np.prod(self.sizes)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1]).view(-1, *self.sizes)


class Rolling(Forecast):
    """K steps ahead from each step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0]).unflatten(-1, self.sizes)


class TimeFirst(Rolling):
    batch_first = False


class OneAtATime(TimeFirst):
    """Takes [T, I], as modules do that were written for one sequence; the head is over what the layer gives."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.view(len(x), 1, -1))[0]).view(len(x), *self.sizes)


class Front(nn.Module):
    """A table for each step that a convolution leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.rnn = nn.Conv1d(I, H, 3, stride=2), nn.LSTM(H, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.front(x.transpose(1, 2)).transpose(1, 2))[0].unflatten(-1, (3, 2))  # type: ignore[no-any-return]


class Decoded(nn.Module):
    """An encoder, and a decoder that is fed by its own answers, K times."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(I, H, batch_first=True), nn.LSTMCell(O, H)
        self.head = nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, c) = self.encoder(x)
        state, given, said = (h[0], c[0]), torch.zeros(x.size(0), O), []
        for _ahead in range(K):
            state = self.decoder(given, state)
            given = self.head(state[0])
            said.append(given)
        return torch.stack(said, 1)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        pytest.param(Forecast(), ("B", K, O), id="last"),
        pytest.param(Forecast(2, 3, 2), ("B", 2, 3, 2), id="three-axes"),
        pytest.param(Forecast(3, 3), ("B", 3, 3), id="as-many-as-rows-of-a-probe"),
        pytest.param(Rolling(), ("B", "T", K, O), id="each-step"),
        pytest.param(TimeFirst(), ("B", "T", K, O), id="time-first"),
        pytest.param(OneAtATime(), ("B", "T", K, O), id="one-sequence-at-a-time"),
        pytest.param(Front(), ("B", "(T-1)//2", 3, 2), id="fewer-steps"),
        pytest.param(Decoded(), ("B", K, O), id="decoder"),
    ],
)
def test_table_is_the_answer_for_any_batch_and_length(exported: Any, module: nn.Module, shape: tuple[Any, ...]) -> None:
    graph = exported(module)
    signature, network = graph.exportable.signature, graph.exportable.network

    assert signature.outputs[0].shape == shape
    for rows, steps in ((1, signature.least_steps), (4, 9), (2, 41)):
        x, *_ = graph.exportable.example(rows, steps)
        lengths = [np.full(rows, steps, np.int32)] * (signature.lengths is not None)
        zeros = [np.zeros((1, rows, H), np.float32) for _ in signature.state]
        found = graph.run(x.numpy(), *lengths, *zeros)[0]
        for row in range(rows):
            with torch.no_grad():
                expected = network.call_as_it_came(module.eval(), x[row : row + 1]).numpy()
            assert expected.shape == found[row : row + 1].shape
            assert float(np.abs(found[row] - expected[0]).max()) < 2e-6


def test_ragged_rows_have_the_tables_that_they_have_alone_and_zeros_behind(exported: Any) -> None:
    graph = exported(Rolling())
    x, counts = graph.exportable.example(3, 9)[0].numpy(), np.array([9, 2, 5], np.int32)
    zeros = [np.zeros((1, 3, H), np.float32)] * 2

    found = graph.run(x, counts, *zeros)[0]

    for row, count in enumerate(counts):
        alone = graph.run(x[row : row + 1, :count], counts[row : row + 1], *(z[:, :1] for z in zeros))[0]
        assert found[row, :count].tobytes() == alone[0].tobytes()
        assert not found[row, count:].any()


class LastFive(nn.Module):
    """Its answer is cut from the last five steps."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(I, H, batch_first=True), nn.Linear(H, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x)[0][:, -5:])
        return y.squeeze(-1) if y.size(-1) == 1 else y


@pytest.mark.parametrize(("outputs", "shape"), [(2, ("B", 5, 2)), (1, ("B", 5))])
def test_sequence_too_short_for_the_whole_table_is_too_short(outputs: int, shape: tuple[Any, ...]) -> None:
    exportable = prepare(LastFive(outputs))

    assert (exportable.signature.outputs[0].shape, exportable.signature.least_steps) == (shape, 5)
    assert str(exportable.network.said_to_fewer).startswith("it answers with shape [3, 4")


class LastOf(nn.Module):
    """Answers for the last steps, of fewer for all."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.rnn, self.head = nn.LSTM(I, H, batch_first=True), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])[:, -self.count :]


@pytest.mark.covering("6")
@pytest.mark.parametrize("count", [6, 12, 100])
def test_last_steps_are_a_table_however_many_they_are(exported: Any, count: int) -> None:
    module = LastOf(count)
    graph = exported(module)
    x = torch.randn(2, count + 3, I)

    assert graph.exportable.signature.outputs[0].shape == ("B", count, O)
    assert graph.exportable.signature.least_steps == count
    with torch.no_grad():
        np.testing.assert_allclose(graph.run(x.numpy())[0], module(x).numpy(), atol=2e-6)


class Mixed(Forecast):
    """Mixes rows, of which a probe has as many as the table."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(0, 1)


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        pytest.param(Mixed(3, 3), "lets a row change the output of another", id="mixed"),
        pytest.param(
            Forecast(2, 2, 2, 2), r"expected .* one to three sizes .* end its forward with .flatten\(1\)", id="four"
        ),
        pytest.param(Mixed(), r"end its forward with .transpose\(0, 1\)", id="rows-behind"),
    ],
)
def test_what_is_no_table_of_each_row_is_refused(module: nn.Module, complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint):
        prepare(module)


@pytest.mark.no_cover
def test_table_of_an_onnx_file_is_read_back_and_verified(tmp_path: Any) -> None:
    exportable = prepare(Rolling())
    (tmp_path / "m.onnx").write_bytes(export_onnx(exportable))

    source = load_onnx(tmp_path / "m.onnx")

    assert source.signature == exportable.signature
    report, _ = verify_onnx(tmp_path / "m.onnx", source, VerifyOptions(drift_steps=50, threads=1))
    assert report.verdict == "equivalent"


def test_onnx_file_that_names_a_number_where_the_steps_are_is_not_taken_for_a_table(tmp_path: Any) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ["B", "T", 3])], [value("y", ["B", 4, 2])], [weight("w", 3, 2)])

    complaint = r"gives y of shape \[1, 1, 2\] .*expected \[1, 4, 2\]; export it with dynamic axes"
    with pytest.raises(SourceError, match=complaint):
        export_onnx_file(
            path, tmp_path / "out", ExportOptions(name="m", verify=VerifyOptions(drift_steps=50, threads=1))
        )


class StepsAndSequence(nn.Module):
    """One head for each step, and one for the sequence, which may be repeated at every step."""

    def __init__(self, *, repeats: bool) -> None:
        super().__init__()
        self.rnn, self.tags, self.label = nn.LSTM(I, H, batch_first=True), nn.Linear(H, 4), nn.Linear(H, 2)
        self.repeats = repeats

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.rnn(x)[0]
        label = self.label(y.mean(1))
        if self.repeats:
            label = label.unsqueeze(1).expand(-1, x.size(1), -1)
        return {"tags": self.tags(y), "label": label}


def test_head_for_the_sequence_beside_one_for_the_steps_is_refused_and_the_remedy_works(exported: Any) -> None:
    with pytest.raises(AnswerError, match=r"or let forward return label at every step, label\.unsqueeze\(1\)\.expand"):
        prepare(StepsAndSequence(repeats=False), answer="tags,label")

    module = StepsAndSequence(repeats=True).eval()
    graph = exported(module, answer="tags,label")

    assert graph.exportable.description["answer"] == "tags (4), label (2)"
    for steps in (1, 8):
        x, zeros = torch.randn(2, steps, I), [np.zeros((1, 2, H), np.float32)] * 2
        with torch.no_grad():
            expected = torch.cat(list(module(x).values()), -1).numpy()
        assert float(np.abs(graph.run(x.numpy(), *zeros)[0] - expected).max()) < 2e-6
