"""Tables with ``max_norm``: torch scales their rows in place as they are read, which a graph, that only reads, cannot.

All rows are scaled once instead. That is the same unless something else reads the table too, as a head that shares its
weight does: there a row counts as it was until it has been read, and the module answers as its history has it.

Rules of this file: torch's own function scales; whether anything else reads a table is found out on a run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import SourceError
from .input_probe import example

if TYPE_CHECKING:
    from .network import ForeignNetwork


def _tables(module: nn.Module) -> Iterator[tuple[str, nn.Embedding | nn.EmbeddingBag]]:
    for path, child in module.named_modules():
        if isinstance(child, nn.Embedding | nn.EmbeddingBag) and child.max_norm is not None:
            yield path, child


@torch.no_grad()
def renorm_tables(module: nn.Module) -> None:
    """Scale every row of each table as torch does when it is read, and take its ``max_norm`` away."""
    for _, table in _tables(module):
        rows = torch.arange(table.num_embeddings)
        torch.embedding_renorm_(table.weight.detach(), rows, float(table.max_norm or 0.0), table.norm_type)
        table.max_norm = None


@torch.no_grad()
def refuse_tables_read_elsewhere(network: ForeignNetwork, source: nn.Module) -> None:
    """Hold the network's module, whose tables are scaled, against the source, of which nothing has been read.

    Raises:
        SourceError: they differ; names the table and what scales it.
    """
    path = next((path for path, _ in _tables(source)), None)
    if path is None:
        return
    scaled, x = copy.deepcopy(source).cpu().eval(), example(network, network.probe_steps[0], 1)
    unread = network.call_as_it_came(copy.deepcopy(scaled), x)
    renorm_tables(scaled)
    if not torch.allclose(unread, network.call_as_it_came(scaled, x), rtol=1e-4, atol=1e-5):
        name = type(source).__name__
        raise SourceError(
            f"{name} reads the weight of {path} elsewhere too, which its max_norm changes as tokens are read, expected "
            f"a weight that stays; let the factory end with net.{path}(torch.arange(net.{path}.num_embeddings)), which "
            "scales all rows"
        )
