"""For authors of checks: gradients and refusals as values, modules where the case's tensors are, random numbers."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch
from torch import nn


def with_grad(fn: Callable, inputs: dict, cotangent: Any = None, module: nn.Module | None = None) -> dict:
    """Call `fn(**inputs)` and return its output together with its gradients, as values.

    Every floating tensor among `inputs` gets a gradient: that of `(output * cotangent).sum()`, where `cotangent` has
    the output's shape (of a tuple: a list of them; None: the output is a scalar, such as a loss). With `module`, its
    trainable parameters get theirs too, by name. No gradient, because nothing reaches the tensor, is None.

    Returns {"output", "grad": {name: tensor | None}, "inputs": the floating tensors as they are after the
    call}, and "parameters": {name: tensor | None} where a module was given. If the output is not what can be
    differentiated (its shape is wrong, say), the gradients are None and the output tells.
    """
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    handed = {name: leaf.clone() for name, leaf in leaves.items()}  # no leaf: can be changed in place
    weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad} if module else {}
    output = fn(**{**inputs, **handed})
    gradients = _gradients(output, cotangent, [*leaves.values(), *weights.values()])
    result = {
        "output": output,
        "grad": dict(zip(leaves, gradients, strict=False)),
        "inputs": {name: value.detach() for name, value in handed.items()},
    }
    if module is not None:
        result["parameters"] = dict(zip(weights, gradients[len(leaves) :], strict=True))
    return result


def _gradients(output, cotangent, wanted):
    outputs = list(output) if isinstance(output, (tuple, list)) else [output]
    given = [cotangent] if cotangent is None or isinstance(cotangent, torch.Tensor) else list(cotangent)
    if len(outputs) != len(given) or not all(isinstance(output, torch.Tensor) for output in outputs):
        return [None] * len(wanted)
    total = None
    for output, weight in zip(outputs, given, strict=True):
        if not output.requires_grad or (
            output.numel() != 1 if weight is None else (output.shape, output.device) != (weight.shape, weight.device)
        ):
            continue
        part = output.sum() if weight is None else (output * weight.to(output)).sum()
        total = part if total is None else total + part
    if total is None or not wanted:
        return [None] * len(wanted)
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    # For an empty tensor (the pictures of a row without pictures) it makes no difference whether a gradient reaches it.
    return [
        torch.zeros_like(tensor) if tensor.numel() == 0 else gradient
        for tensor, gradient in zip(wanted, gradients, strict=True)
    ]


def first_float(case: Any) -> torch.Tensor | None:
    """The first floating tensor in a nest of lists and dicts, or None."""
    if isinstance(case, torch.Tensor):
        return case if case.is_floating_point() else None
    items = case.values() if isinstance(case, dict) else case if isinstance(case, list) else ()
    return next((tensor for tensor in map(first_float, items) if tensor is not None), None)


def first_tensor(case: Any) -> torch.Tensor | None:
    """The first tensor in a nest of lists and dicts, or None."""
    if isinstance(case, torch.Tensor):
        return case
    items = case.values() if isinstance(case, dict) else case if isinstance(case, list) else ()
    return next((tensor for tensor in map(first_tensor, items) if tensor is not None), None)


class _Earlier:
    """The learner's modules that a call has made, to be given to the next call in place of new ones."""

    def __init__(self, name: str):
        self.name, self.next = name, -1
        self.made: list[nn.Module] = []

    def start_again(self) -> None:
        self.next = 0

    def instead_of(self, module: nn.Module) -> nn.Module:
        """The module that stood at this place in the earlier call, with the weights of `module`; or `module`."""
        if type(module).__module__ != self.name:
            return module  # a check's own
        if self.next < 0:
            self.made.append(module)
            return module
        old = self.made[self.next] if self.next < len(self.made) else module
        self.next += 1
        if type(old) is not type(module):
            return module
        try:
            old.load_state_dict(module.state_dict(), strict=True)
        except RuntimeError:  # of other sizes
            return module
        for mine, its in zip(old.parameters(), module.parameters()):
            mine.requires_grad_(its.requires_grad)
        return old.train(module.training)


_EARLIER: ContextVar[_Earlier | None] = ContextVar("earlier", default=None)


@contextlib.contextmanager
def reusing(module: ModuleType) -> Iterator[Callable[[], None]]:
    """Inside, after a call of the function that it gives, `like` hands out the objects of `module`'s classes that it
    was given before, in the same order and with the new weights: so what a forward pass keeps on self shows.
    """
    earlier = _Earlier(module.__name__)
    token = _EARLIER.set(earlier)
    try:
        yield earlier.start_again
    finally:
        _EARLIER.reset(token)


def like(case: Any, module: nn.Module, weights: dict | None = None) -> nn.Module:
    """`module` on the case's device and in its floating dtype, with `weights` (name -> tensor) loaded strictly.

    `like(case, module.Projection(5, 7), case["weights"])` in a `call` makes the check work in float64 and on a GPU.
    """
    if (earlier := _EARLIER.get()) is not None:
        module = earlier.instead_of(module)
    tensor = first_float(case)
    if tensor is not None:
        module = module.to(device=tensor.device, dtype=tensor.dtype)
    elif (tensor := first_tensor(case)) is not None:
        module = module.to(device=tensor.device)
    if weights is not None:
        module.load_state_dict(weights, strict=True)
    return module


def attempt(call: Callable[[], object], wanted: type[Exception] = ValueError) -> tuple[object, str, str]:
    """What comes of a call that should raise `wanted`: (its value, "", ""), or (None, the exception's name, its text).

    An exception of a class below `wanted` has the name of `wanted`. NotImplementedError is not caught: it says that a
    TODO is not written yet.
    """
    try:
        return call(), "", ""
    except NotImplementedError:
        raise
    except Exception as error:
        return None, wanted.__name__ if isinstance(error, wanted) else type(error).__name__, str(error)


def between(generator: torch.Generator, low: int, high: int) -> int:
    """A random whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
