"""Code that the caller names: a file or module, imported under a name that takes none from another, and what is in it.

Rules of this file: whatever goes wrong is a SourceError of one sentence that tells whose fault it is: the file is
missing, the file itself failed, the name is not in it. Only what the caller names is run.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from torch import nn

from .error_line import said_by
from .errors import SourceError

FORMS: Final = (
    "path/to/file.py:factory, package.module:factory, a checkpoint (.safetensors, .pt, .pth, .ckpt) or an .onnx file"
)
_SHOWN: Final = 8


@contextmanager
def loaded_module(place: str) -> Iterator[ModuleType]:
    """Import FILE.py or a module, and let it find its neighbours while entered, as where it is run as a script.

    While entered, the command line that it sees is its name alone: the words are not meant for a parser of its own. The
    working folder is put back at the end, for paths that the caller has yet to open.

    Args:
        place: path of a file that ends in ".py", or the dotted name of a module.

    Raises:
        SourceError: it is missing, or itself failed.
    """
    is_file = place.endswith(".py")
    folder = str(Path(place).resolve().parent if is_file else Path.cwd())
    with _own_words(place), _working_folder(), _import_path(folder):
        yield _load_file(Path(place)) if is_file else _load_module(place)


def attribute_of(module: ModuleType, dotted: str, place: str) -> Any:
    """Return what a dotted name means in a module.

    Raises:
        SourceError: it means nothing; the message lists what there is.
    """
    found: Any = module
    for part in dotted.split("."):
        if not hasattr(found, part):
            names = candidates(module)
            there = f"there are: {', '.join(names)}" if names else "there is nothing in it that could be one"
            raise SourceError(f"{place} has no {dotted!r}, expected a function, class or network; {there}")
        found = getattr(found, part)
    return found


def say_failure(err: BaseException) -> str:
    """Return in one line what the caller's code raised."""
    if isinstance(err, SystemExit):
        return f"it called sys.exit({err.code}); guard what runs with if __name__ == '__main__'"
    return said_by(err)


@contextmanager
def _own_words(place: str) -> Iterator[None]:
    """Keep ``sys.argv`` from the caller's code."""
    kept, sys.argv = sys.argv, [place]
    try:
        yield
    finally:
        sys.argv = kept


@contextmanager
def _working_folder() -> Iterator[None]:
    """Come back to the folder that is the working folder now, even if it has no name any more."""
    # O_PATH, which only Linux has, opens a folder that may not be read, too.
    folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.fchdir(folder)
        os.close(folder)


@contextmanager
def _import_path(folder: str) -> Iterator[None]:
    """Let imports find what lies in ``folder``."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the file may have tidied up itself
            sys.path.remove(folder)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SourceError(
            f"{path} {'is no file' if path.exists() else 'does not exist'}, expected a Python file with your network"
        )
    name = _free_name(path)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # TorchScript, dataclasses and the exchange of packing look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:
        del sys.modules[name]
        remedy = "mend the file"
        if isinstance(err, ModuleNotFoundError) and err.name:
            remedy = (
                f"install the package that has {err.name.partition('.')[0]}, or put it beside the file if it is yours"
            )
        if isinstance(err, ImportError) and "relative import" in str(err):
            remedy = (
                "it belongs to a package, so name it as package.module:factory, from the folder that holds the package"
            )
        raise SourceError(f"{path} failed to import: {say_failure(err)}; {remedy}") from err
    return module


def _free_name(path: Path) -> str:
    """Return a name for the file that takes none from another module: a file queue.py must not become the library's."""
    known = sys.modules.get(path.stem)
    if known is not None:
        taken = getattr(known, "__file__", None) != str(path.resolve())
    else:
        elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != path.resolve().parent]
        kept, sys.path[:] = sys.path[:], elsewhere
        try:
            taken = not path.stem.isidentifier() or find_spec(path.stem) is not None
        finally:
            sys.path[:] = kept
    return f"cellgate_source_{path.stem}" if taken else path.stem


def _load_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as err:
        if err.name and (name == err.name or name.startswith(f"{err.name}.")):
            raise SourceError(
                f"module {name} does not exist ({err.name} was not found in {Path.cwd()} nor among the installed "
                f"packages), expected {FORMS}"
            ) from err
        raise SourceError(f"module {name} failed to import: {say_failure(err)}; install what it imports") from err
    except (Exception, SystemExit) as err:
        raise SourceError(f"module {name} failed to import: {say_failure(err)}; mend it") from err


def candidates(module: ModuleType) -> list[str]:
    """Return the names in a module that could be meant: its own functions and networks, the callable first."""
    found = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (
                getattr(value, "__module__", None) == module.__name__
                and (inspect.isfunction(value) or (isinstance(value, type) and issubclass(value, nn.Module)))
            )
        )
    ]
    found.sort(key=lambda name: _needs_arguments(vars(module)[name]))
    return [*found[:_SHOWN], *(["..."] if len(found) > _SHOWN else [])]


def _needs_arguments(value: Any) -> bool:
    """Whether a function or class cannot be called without arguments, so that it is no factory as it stands."""
    if isinstance(value, nn.Module):
        return False
    kinds = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    parameters = inspect.signature(value).parameters.values()
    return any(parameter.default is parameter.empty and parameter.kind not in kinds for parameter in parameters)
