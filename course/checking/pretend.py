"""A second device that only pretends, so that code which forgets the device fails on a laptop too.

A tensor on it says `device(type='meta')` and holds real values on the CPU. Operations are computed there, and their
results are on the pretended device again. As on a GPU, an operation that mixes its tensors with tensors on the CPU
raises. Allowed are, as on a GPU, numbers (tensors without a dimension), copies between devices, and indices on the CPU.

It is a tensor subclass and a mode that sees every operation (torch.utils._python_dispatch). No device is registered,
so nothing global changes.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")  # a device that every torch knows, and on which nobody computes
# Views that only note a sign: below a mode nobody heeds the note, so the numbers are changed.
NOTED = {torch.ops.aten._conj: torch.ops.aten._conj_physical, torch.ops.aten._neg_view: torch.ops.aten.neg}
COPIES = (torch.ops.aten.copy_, torch.ops.aten._to_copy)
INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_)


class WrongDevice(RuntimeError):
    """What a GPU would raise for tensors on two devices."""


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device; `held` has its values, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Elsewhere":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=DEVICE, **layout)
        made.held = held.detach()
        return made

    def __repr__(self) -> str:
        return f"{self.held!r} on another device"

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, kinds: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _computed(function, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Sees every operation: what is made with `device=DEVICE` becomes an Elsewhere."""


# Set after the class is made: TorchDispatchMode would wrap it in a function that imports torch's compiler, a second.
_Operations.__torch_dispatch__ = lambda self, function, kinds, args=(), kwargs=None: _computed(
    function, args, kwargs or {}
)


def _computed(function: Any, args: tuple, kwargs: dict) -> Any:
    """An operation done on the CPU, after a look at the devices."""
    away: dict[int, Elsewhere] = {}  # by the tensor that each holds
    here: list[torch.Tensor] = []

    def held(value: Any) -> Any:  # PyTorch's own tree_map does the same, several times slower
        if isinstance(value, Elsewhere):
            away[id(value.held)] = value
            return value.held
        if isinstance(value, torch.Tensor):
            here.append(value)
        elif isinstance(value, (list, tuple)):
            return [held(item) for item in value]
        return value

    def there(value: Any) -> Any:
        if isinstance(value, torch.Tensor):  # an operation in place gives back what it was given
            return away[id(value)] if id(value) in away else Elsewhere(value)
        return type(value)(map(there, value)) if isinstance(value, (list, tuple)) else value

    args_here = [held(arg) for arg in args]
    kwargs_here = {name: held(value) for name, value in kwargs.items()}
    operation = function.overloadpacket
    if away and here and operation not in COPIES:
        if operation in INDEXING and isinstance(args[0], Elsewhere):  # indices may be here, the values may not
            here = [
                value for value in args[2:3] if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere)
            ]
        if any(tensor.dim() for tensor in here):
            raise WrongDevice(
                "Expected all tensors to be on the same device, but found at least two devices: the one of the "
                "inputs, and cpu"
            )
    wanted = kwargs.get("device")
    goes_there = bool(away) if wanted is None else torch.device(wanted) == DEVICE
    if wanted is not None and goes_there:
        kwargs_here["device"] = "cpu"
    result = NOTED.get(operation, function)(*args_here, **kwargs_here)
    if operation is torch.ops.aten.copy_:
        return args[0]
    return there(result) if goes_there else result


class _Functions(TorchFunctionMode):
    """torch.tensor and its like make something on this device without an operation that a mode could see."""

    def __torch_function__(self, function: Any, kinds: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        wanted = kwargs.get("device")
        if function in (torch.tensor, torch.as_tensor, torch.asarray) and wanted is not None:
            if torch.device(wanted) == DEVICE:
                return function(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return function(*args, **kwargs)


class _Autocast(torch.autocast):
    """On the pretended device autocast is the CPU's."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any):
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


class _Generator(torch.Generator):
    """On the pretended device random numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        return super().__new__(cls, "cpu" if torch.device(device) == DEVICE else device)


@contextlib.contextmanager
def pretending() -> Iterator[None]:
    """Inside, DEVICE is a device: tensors can be made there or moved there, and autocast and generators know it."""
    before = torch.autocast, torch.amp.autocast, torch.Generator
    torch.autocast, torch.amp.autocast, torch.Generator = _Autocast, _Autocast, _Generator  # type: ignore[misc]
    try:
        with _Functions(), _Operations():
            yield
    finally:
        torch.autocast, torch.amp.autocast, torch.Generator = before  # type: ignore[misc]
