"""TorchScript of a network: its loop kept as a loop, batch and time free.

PyTorch has announced the end of TorchScript. It is one leg of the comparison and one file of the bundle; where it is
gone or refuses a module, the rest goes on and the report says so. Nothing else in the house needs this file.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .exportable import Exportable
from .foreign.cut_inputs import scripted
from .foreign.network import ForeignNetwork
from .graph.eager_answers import answered_as_scripted
from .steps.step_loop import StepLoop, scripted_loop


@dataclass(frozen=True, slots=True)
class Scripted:
    """The compiled module and its bytes, or None and b"" with the reason why there is none."""

    module: torch.nn.Module | None
    content: bytes
    reason: str = ""


def export_torchscript(exportable: Exportable) -> Scripted:
    """Compile ``exportable.scriptable``.

    For a network of this house the compiled forward takes (x, lengths, state: list of tensors); a foreign module keeps
    its own arguments. What compiles and then does not run (a GPU that is not there, a list where a tensor is given) is
    left out like what does not compile.
    """
    reason = _left_out_for(exportable)
    if reason:
        return Scripted(None, b"", reason)
    try:
        with _unwarned():
            source = exportable.scriptable
            module = scripted_loop(source) if isinstance(source, StepLoop) else scripted(source)
            if not hasattr(module, "forward"):  # torch's own layers have several, and none of that name
                return Scripted(None, b"", "not applicable: torch compiles a recurrent layer only inside a module")
            buffer = io.BytesIO()
            torch.jit.save(module, buffer)
    except Exception as err:  # noqa: BLE001 - the compiler refuses a stranger's code in many ways, and may be gone
        return Scripted(None, b"", _reason(err))
    try:
        y = _run_once(exportable, module)
    except Exception as err:  # noqa: BLE001 - what the interpreter raises is as various
        return Scripted(None, b"", f"not applicable: compiled, it stops with {_reason(err)}")
    if y is not None and _goes_its_own_way(exportable, y):
        return Scripted(
            None, b"", "not applicable: its forward does something else where torch.jit.is_scripting() is true"
        )
    return Scripted(module, _without_sources(buffer.getvalue()))


def _left_out_for(exportable: Exportable) -> str:
    """Return why nothing is compiled; "" where something is."""
    kept = exportable.network.keeps if isinstance(exportable.network, ForeignNetwork) else ()
    if kept:
        what = ", ".join(f"self.{name}" for name in sorted(kept))
        return f"not applicable: its forward assigns to {what}, which would last from call to call"
    if not torch.jit._state._enabled.enabled:  # noqa: SLF001 - it would hand the module back as it came
        return "not applicable: PYTORCH_JIT=0 switches the compiler off"
    return ""


@contextmanager
def _unwarned() -> Iterator[None]:
    """Keep what announces TorchScript's end from people who cannot act on it: a FutureWarning since torch 2.14."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


@torch.no_grad()
def _run_once(exportable: Exportable, module: torch.nn.Module) -> Tensor | None:
    """Run the compiled form, which may want another type or device than the code that it was compiled from.

    Returns what a foreign module answers.
    """
    x, *rest = exportable.example()
    if isinstance(exportable.network, ForeignNetwork):
        return exportable.network.call_as_it_came(module, x[:1])
    lengths = rest.pop(0) if exportable.signature.lengths else None
    module(x, lengths, rest or None)
    return None


@torch.no_grad()
def _goes_its_own_way(exportable: Exportable, compiled: Tensor) -> bool:
    """Whether the compiled form answers what the code gives where it is told that it is compiled, and only there."""
    assert isinstance(exportable.network, ForeignNetwork)
    source, x = exportable.scriptable, exportable.example()[0][:1]
    eager = exportable.network.call_as_it_came(source, x)
    if _alike(eager, compiled):
        return False  # any other difference is for the comparison of all forms to find
    with answered_as_scripted(source):
        told = exportable.network.call_as_it_came(source, x)
    return _alike(told, compiled) and not _alike(told, eager)


def _alike(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def _reason(err: Exception) -> str:
    """Return what torch says in one line, the place in the user's code, and what helps where it had to guess a type."""
    lines = [re.sub(r" at 0x\w+", "", line.strip().rstrip(":")) for line in str(err).split("\n") if line.strip()]
    # The interpreter begins with a picture of its stack; an address would make each report another.
    chosen = lines[-1 if lines[0].startswith("The following operation failed") else 0] if lines else "no reason given"
    chosen = chosen.removeprefix("builtins.")
    said = chosen[:300] if chosen.startswith("RuntimeError: ") else f"{type(err).__name__}: {chosen[:300]}"
    place = re.search(r'File "([^"]+)", line (\d+)', str(err))
    if place is not None:
        said += f" ({Path(place[1]).name}:{place[2]})"
    if "(inferred)" in said:
        said += "; give that argument its type, as in state: tuple[Tensor, Tensor]"
    if "undefined Tensor" in said:
        said += "; give an argument that may be None its type, as in hidden: torch.Tensor | None = None"
    return said


def _without_sources(content: bytes) -> bytes:
    """Return the archive without its debug records: they hold the paths of the machine that compiled it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry))
    return out.getvalue()


def load_torchscript(content: bytes) -> torch.nn.Module:
    """Load what ``export_torchscript`` gave. It is code: only for files of one's own bundles."""
    with _unwarned():
        module: torch.nn.Module = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
    return module
