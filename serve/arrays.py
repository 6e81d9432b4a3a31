"""The array aliases of this folder, so that no other file spells them. Shapes: B batch, T time, I input, O output."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
