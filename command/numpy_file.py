"""Arrays from NumPy's files: .npy holds one, .npz several under their names.

Rules of this file: nothing is unpickled, and no sentence tells anybody to; whatever is wrong is a UsageError.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

Array = NDArray[Any]


def read_array(path: Path) -> Array:
    """Return the array of a .npy file.

    Raises:
        UsageError: it is damaged, an archive, of Python objects, or something else.
    """
    with path.open("rb") as file:
        array = _load(path, file)
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{path}: expected one array, found an archive; call it .npz")
    return array


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file by their names.

    Raises:
        UsageError: it is damaged, one array, of Python objects, or something else.
    """
    with path.open("rb") as file:  # NumPy leaves one that it opened itself open where the archive is damaged
        archive = _load(path, file)
        if isinstance(archive, np.ndarray):
            raise UsageError(f"{path}: expected an archive of arrays, found one array; call it .npy")
        try:
            arrays = {name: archive[name] for name in archive.files}
        except Exception as err:  # as below
            raise UsageError(f"{path}: expected arrays of numbers, found: {_found(err, 'save it again')}") from err
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy gives the bytes of what it does not know
            raise UsageError(f"{path}: {name}: expected an array as np.savez writes it, found other bytes")
    return arrays


def _load(path: Path, file: IO[bytes]) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except Exception as err:  # damaged headers and archives fail in a dozen ways, out of memory among them
        raise UsageError(
            f"{path}: expected arrays of numbers as np.save writes them, found: {_found(err, 'write it again')}"
        ) from err


def _found(err: Exception, remedy: str) -> str:
    """Return what NumPy found, and the remedy; what it says of pickle itself would be the wrong one."""
    said = str(err)
    if said.startswith("Object arrays"):
        return (
            "Python objects, as np.array makes them of rows of unequal length; write the rows as .json, or padded as "
            "x in an .npz with their lengths"
        )
    if "pickle" in said:  # whatever does not begin as NumPy's files do
        return "another form; give the file the suffix of its own form, or write it with np.save"
    return f"{said}; {remedy}"
