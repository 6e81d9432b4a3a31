"""Files of code that name networks, for the tests of what people name on a command line."""

import pytest

from cellgate.export.errors import SourceError
from cellgate.export.source import load_source

GOOD = """
import torch
from torch import nn
from cellgate.model import SequenceModel

ready = SequenceModel(3, 4, 2)


class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.lstm = nn.LSTM(width, 4)


class Needs(nn.Module):
    def __init__(self, width, depth):
        super().__init__()


class Shelf:
    @staticmethod
    def make():
        return SequenceModel(3, 4, 2)


def make():
    return SequenceModel(3, 4, 2, dropout=0.5).train()


def fails():
    raise KeyError("weights")


def leaves():
    raise SystemExit(3)


def gives_text():
    return "network"


def gives_nothing():
    return None


async def later():
    return 1


number = 5
_hidden = make
"""


def refusal(text, weights=None):
    with pytest.raises(SourceError) as caught:
        load_source(str(text), weights)
    message = str(caught.value)
    assert "\n" not in message
    return message
