"""What a module's code asks of tensors by the way and an export cannot give: a GPU, and lengths as plain numbers.

Old code sends its tensors to the GPU by itself; an export runs on the CPU, and what it computes is the same there. Code
that packs asks for its lengths with ``lengths.tolist()`` or ``.numpy()``; as plain numbers they would be the example's.
"""

from collections.abc import Callable
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode

from ..graph.free_pooling import free_form_of

_CPU: Final = torch.device("cpu")
# Those of a capture have a tolist of their own.
_TOLISTS: Final[tuple[tuple[Any, Any], ...]] = tuple(
    (kind, kind.tolist) for kind in (Tensor, FakeTensor, FunctionalTensor)
)
_DATA: Final = Tensor.data.__get__  # type: ignore[attr-defined] # a descriptor of the C type


class CpuOnly(TorchFunctionMode):
    """While entered, ``x.cuda()``, ``x.to("cuda")`` and ``torch.zeros(..., device="cuda")`` stay on the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` without its wish for a GPU."""
        del types
        if func is Tensor.cuda:
            return args[0]
        if func is Tensor.to:
            args = (args[0], *(_CPU if _is_cuda(value) else value for value in args[1:]))
        named = {
            name: _CPU if name == "device" and _is_cuda(value) else value for name, value in (kwargs or {}).items()
        }
        return func(*args, **named)


class SinglesDoubled(TorchFunctionMode):
    """While entered, code that names float32 gets float64: ``x.float()``, ``x.to(torch.float32)``, ``dtype=``.

    A module is judged in float64, and what its code makes for itself has to follow its weights there.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` with float64 for float32."""
        del types
        if func is Tensor.float:
            return args[0].double()
        args = tuple(_doubled(value) for value in args)  # of x.to(dtype), and of its operator in a loop rolled up
        return func(*args, **{name: _doubled(value) for name, value in (kwargs or {}).items()})

    def __enter__(self) -> Self:
        """Make float64 what tensors are by default."""
        self._kept = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *raised: object) -> None:
        """Leave torch as it was."""
        torch.set_default_dtype(self._kept)
        super().__exit__(*raised)  # type: ignore[no-untyped-call]


def _doubled(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


class DataKept(TorchFunctionMode):
    """While a loop is captured, ``weight.data`` is the weight, whose values would become constants of the graph."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or keep its tensor."""
        del types
        return args[0].detach() if func == _DATA else func(*args, **(kwargs or {}))


class TensorsKept(TorchFunctionMode):
    """While a graph is captured: what would take numbers out of it gives the tensor.

    ``tolist()`` and ``numpy()`` of a vector of whole numbers, by which code hands its lengths to packing, and ``data``,
    whose values would become constants of the graph. ``squeeze`` leaves the free axes, named or not, which the graph
    would lose for one row or one step. And pooling keeps the length free (free_pooling.py).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or keep its tensor."""
        del types
        if func == _DATA:
            return args[0].detach()
        if func in {Tensor.squeeze, torch.squeeze} and args:
            return _squeezed(*args, **(kwargs or {}))
        if func is Tensor.numpy and _is_vector_of_counts(args[0]):
            return args[0]
        return free_form_of(func)(*args, **(kwargs or {}))

    def __enter__(self) -> Self:
        """Take the place of ``tolist`` too, which asks no mode."""
        for kind, listed in _TOLISTS:
            kind.tolist = _kept_or(listed)
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *raised: object) -> None:
        """Leave torch as it was."""
        for kind, listed in _TOLISTS:
            kind.tolist = listed
        super().__exit__(*raised)  # type: ignore[no-untyped-call]


def _squeezed(tensor: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Return a tensor without its axes of one, or those of them that are named; a free axis is none."""
    rank = tensor.dim()
    named = range(rank) if dim is None else [k % max(rank, 1) for k in ([dim] if isinstance(dim, int) else dim)]
    ones = tuple(k for k in named if type(tensor.shape[k]) is int and tensor.shape[k] == 1) if rank else ()
    return tensor.squeeze(ones) if ones else tensor  # of no axes it would be a view that ONNX has not


def _kept_or(listed: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    return lambda tensor: tensor if _is_vector_of_counts(tensor) else listed(tensor)


def _is_vector_of_counts(tensor: Tensor) -> bool:
    return tensor.dim() == 1 and tensor.dtype in {torch.int32, torch.int64}


def _is_cuda(value: object) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


def wants_cuda(err: BaseException) -> bool:
    """Whether an error says that code wanted a GPU that is not there, or mixed its tensors with the CPU's."""
    return any(word in str(err) for word in ("CUDA", "cuda", "NVIDIA"))
