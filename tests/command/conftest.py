"""Three real bundles, each exported once a session by the command itself, and a way to run commands in this process."""

import contextlib
import io
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cellgate.__main__ import main
from cellgate.model import SequenceModel, save_network

from .stub_server import Stub

NETWORKS = """
import torch
from torch import nn
from cellgate.model import SequenceModel

LABELS = ("low", "high")


def classifier():
    return SequenceModel(3, 4, 2, reads="last_step")


def tagger():
    torch.manual_seed(1)
    return SequenceModel(7, 4, front="embedding", front_dim=3, cell="GRUCell")


class Odd(nn.Module):
    '''An LSTM over raw steps whose answer is the plain mean: it cannot honour lengths.'''

    def __init__(self, width=3):
        super().__init__()
        torch.manual_seed(2)
        self.lstm = nn.LSTM(width, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, series):
        y, _ = self.lstm(series)
        return self.out(y.mean(1)), y.amax(1), {"last": y[:, -1]}


def chaotic():
    torch.manual_seed(4)
    network = SequenceModel(3, 8, 2, reads="every_step")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.mul_(60.0)
    return network


def noisy():
    print("printed by the factory")
    return classifier()
"""
QUICK = ("--drift-steps", "50", "--threads", "1")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def answer(self):
        return json.loads(self.out)

    @property
    def sentence(self):
        """The one line that an error leaves, without the program's name."""
        lines = [line for line in self.err.splitlines() if "(" not in line[:40] or "expected" in line]
        assert lines, self
        assert "Traceback" not in self.err
        return lines[-1].removeprefix("cellgate: ")


def run_command(*argv: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in argv])
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Commands hold torch to --threads for the rest of the process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run():
    return run_command


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    """A folder with networks.py and the weights of its classifier."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "networks.py").write_text(NETWORKS, encoding="utf-8")
    torch.manual_seed(0)
    network = SequenceModel(3, 4, 2, reads="last_step")
    save_network(network, folder / "weights.safetensors", {"cellgate.labels": '["down", "up"]'})
    torch.save(torch.nn.LSTM(3, 4, num_layers=2).state_dict(), folder / "lstm.pt")
    return folder


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle, the words that made it, and what the command said."""

    path: Path
    source: str
    done: Done


@pytest.fixture(scope="session")
def classifier(networks) -> ExportedBundle:
    """Labels from the weights; answers with its last step."""
    source, out = f"{networks / 'networks.py'}:classifier", networks / "bundles" / "Class fier"
    done = run_command("export", source, "--weights", networks / "weights.safetensors", "--out", out, *QUICK)
    assert done.status == 0, done.err
    return ExportedBundle(out, source, done)


@pytest.fixture(scope="session")
def tagger(networks) -> ExportedBundle:
    """Tokens, every step, no labels of its own; told in JSON."""
    source, out = f"{networks / 'networks.py'}:tagger", networks / "bundles" / "tagger"
    (networks / "names.txt").write_text("a\nb\n\nc\nd\n", encoding="utf-8")
    done = run_command("export", source, "--out", out, "--labels", networks / "names.txt", "--json", *QUICK)
    assert done.status == 0, done.err
    return ExportedBundle(out, source, done)


@pytest.fixture(scope="session")
def odd(networks) -> ExportedBundle:
    """A stranger's module that takes no lengths, with a normalisation."""
    source, out = f"{networks / 'networks.py'}:Odd", networks / "bundles" / "odd"
    moments = networks / "moments.json"
    moments.write_text('{"mean": [1, 2, 3], "std": [0.5, 1, 2]}', encoding="utf-8")
    words = ("--argument", "sequence=series", "--input-dim", "3", "--normalisation", moments, "--labels", "no,yes")
    done = run_command("export", source, "--out", out, *words, *QUICK)
    assert done.status == 0, done.err
    return ExportedBundle(out, source, done)


@pytest.fixture
def stub():
    """A server of one model, "toy", that answers as told."""
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
