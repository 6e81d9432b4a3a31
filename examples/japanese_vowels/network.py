"""The network of the example: who of nine speakers says /ae/.

Rules of this file: it says how the network is built and nothing of how it was trained; it needs no package but cellgate
and torch.

    cellgate export examples/japanese_vowels/network.py:speaker_network \
        --weights examples/japanese_vowels/weights.safetensors --out bundles/japanese-vowels
"""

from typing import Final

from cellgate.model import SequenceModel

COEFFICIENTS: Final = 12  # I
SPEAKERS: Final = 9  # O
LABELS: Final = tuple(f"speaker {number}" for number in range(1, SPEAKERS + 1))
"""Names of the outputs, in order. The source numbers its speakers and names none."""


def speaker_network() -> SequenceModel:
    """Return the network with fresh weights: x float32 [B, T, 12], raw coefficients -> scores (logits) [B, 9].

    One LSTM layer of 64 reads forwards only and answers from its last real step, so a recording can be sent in chunks
    while it is still going on.
    """
    return SequenceModel(COEFFICIENTS, 64, SPEAKERS, cell="LSTMCell", reads="last_step")
