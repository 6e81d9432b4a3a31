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
from .input_trial import example

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
def refuse_tables_read_elsewhere(network: ForeignNetwork, made_ready: nn.Module, source: nn.Module) -> None:
    """Hold the module whose tables are scaled against the same with those of the source, of which nothing was read.

    Args:
        network: says how it is called.
        made_ready: whose tables are scaled; the source's module, or one around it.
        source: as the factory gave it.

    Raises:
        SourceError: they differ; names the table and what scales it.
    """
    unread, tables = copy.deepcopy(made_ready), dict(_tables(source))
    for place, child in unread.named_modules():
        table = next((table for path, table in tables.items() if f".{place}".endswith(f".{path}")), None)
        if table is not None and isinstance(child, type(table)):
            child.weight.copy_(table.weight)
            child.max_norm = table.max_norm
    x = example(network, network.probe_steps[0], 1)
    scaled = network.call_as_it_came(made_ready, x) if tables else x
    if tables and not torch.allclose(network.call_as_it_came(unread, x), scaled, rtol=1e-4, atol=1e-5):
        path = next(iter(tables))
        raise SourceError(
            f"{type(source).__name__} reads the weight of {path} elsewhere too, which its max_norm changes as tokens "
            f"are read, expected a weight that stays; let the factory end with net.{path}(torch.arange(net.{path}"
            ".num_embeddings)), which scales all rows"
        )
