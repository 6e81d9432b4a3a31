"""A checkpoint as torch reads it, for `inspect`: the one file of the view that needs torch."""

from pathlib import Path

from ..model.checkpoint import network_from_checkpoint
from ..model.weight_file import WeightsError, read_weights, say_dtype
from .errors import UsageError
from .weights_view import Checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of a checkpoint, and the network where its shapes tell.

    Raises:
        UsageError: damaged, or it holds more than tensors; the message is the reader's.
    """
    try:
        tensors = read_weights(path).tensors
    except WeightsError as err:
        raise UsageError(str(err)) from err
    shapes = tuple((name, say_dtype(t.dtype), tuple(t.shape)) for name, t in sorted(tensors.items()))
    try:
        _, facts = network_from_checkpoint(path)
    except WeightsError as err:
        return Checkpoint(tensors=shapes, reason=str(err))
    return Checkpoint(tensors=shapes, form=str(facts["form"]), network=facts["description"])
