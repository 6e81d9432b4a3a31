"""What can go wrong on the way to a bundle. Messages name the thing, expected, found, and the remedy."""

from typing import Final

NO_COMPLEX: Final = (
    "expected float32, for ONNX computes with no complex numbers; hold real and imaginary part as two tensors, and "
    "write the product out, (a + bi)(c + di) = (ac - bd) + (ad + bc)i"
)
"""What helps against complex numbers."""


class ExportError(ValueError):
    """The network cannot be exported. Never raised itself."""


class SourceError(ExportError):
    """The source (factory, checkpoint, file) cannot be read or does not give a network."""


class SignatureError(ExportError):
    """What forward takes or gives fits no graph over sequences, or it cannot be told which argument is which."""


class AnswerError(SignatureError):
    """What forward returns cannot be the answer: no tensor first, none as told, or one for each step in a list."""


class FrozenAxisError(ExportError):
    """Something in the network freezes the batch or the time to the example's size; the message names the place."""


class UnsupportedLayerError(ExportError):
    """A layer has no form that keeps time free."""


class NotEquivalentError(ExportError):
    """The implementations disagree: the bundle is not written."""
