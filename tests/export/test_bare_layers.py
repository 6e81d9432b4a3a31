"""A recurrent layer of torch that is the whole module: exported, without TorchScript, which has no forward for it."""

import torch
from torch import nn

from cellgate.export.exportable import prepare
from cellgate.export.proof.torch_legs import ControlLeg
from cellgate.export.torchscript import export_torchscript


def test_a_layer_alone_has_no_torchscript_and_says_why() -> None:
    scripted = export_torchscript(prepare(nn.LSTM(4, 6, 2)))

    assert scripted.module is None
    assert scripted.reason == "not applicable: torch compiles a recurrent layer only inside a module"


class Counting(nn.Module):
    """Finds its lengths itself: steps of zeros at the end are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        counts = (x.abs().sum(-1) > 0).sum(1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0][-1]  # type: ignore[no-any-return]


def test_the_control_ends_where_the_modules_own_lengths_end() -> None:
    exportable = prepare(Counting())
    x = torch.randn(1, 7, 4, generator=torch.Generator().manual_seed(0))
    x[:, 5:] = 0.0
    feeds = {"x": x.numpy()} | {
        spec.name: torch.zeros([1 if axis == "B" else axis for axis in spec.shape]).numpy()  # type: ignore[misc]
        for spec in exportable.signature.inputs
        if spec.name not in {"x", "lengths"}
    }
    if exportable.signature.lengths:
        feeds["lengths"] = torch.tensor([7], dtype=torch.int32).numpy()
    given = ControlLeg(exportable).run(feeds)
    y, final = exportable.network(x)

    assert torch.allclose(torch.from_numpy(given["y"]), y, atol=1e-6)
    for name, tensor in zip([spec.name for spec in exportable.signature.outputs][1:], final, strict=True):
        assert torch.allclose(torch.from_numpy(given[name]), tensor, atol=1e-6)
