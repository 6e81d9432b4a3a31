"""What can go wrong on the way to a bundle. Messages name the thing, expected, found, and the remedy."""


class ExportError(ValueError):
    """The network cannot be exported. Never raised itself."""


class SourceError(ExportError):
    """The source (factory, checkpoint, file) cannot be read or does not give a network."""


class SignatureError(ExportError):
    """It cannot be told which argument of forward is the sequence, the lengths or the state."""


class AnswerError(SignatureError):
    """What forward returns is no tensor and does not begin with one."""


class FrozenAxisError(ExportError):
    """Something in the network freezes the batch or the time to the example's size; the message names the place."""


class UnsupportedLayerError(ExportError):
    """A layer has no form that keeps time free."""


class NotEquivalentError(ExportError):
    """The implementations disagree: the bundle is not written."""
