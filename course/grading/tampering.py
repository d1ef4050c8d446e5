"""Whether a stranger's code has replaced functions that a check's call relies on: torch's, Python's, or ours.

Values that are compared with the solution's need no such care: whoever forges them has computed them. But a check that
looks at properties (is everything frozen?) believes what the functions in its process say. Whoever goes deeper than
replacing names is not found here; the text search in flags.py points a human at the means.
"""

import builtins
import sys
import types

import torch
from torch import nn

OURS = ("calls", "course.checking.calling", "course.checking.helpers", "course.checking.judging",
        "course.checking.standin", "course.checking.values", "course.grading.protocol", "course.grading.child",
        "course.grading.tampering")


def _watched() -> dict[str, object]:
    places = {"builtins": builtins, "torch": torch, "torch.nn.functional": nn.functional,
              "torch.autograd": torch.autograd, "torch.Tensor": torch.Tensor, "torch.nn.Parameter": nn.Parameter}
    for name, value in vars(nn).items():
        if isinstance(value, type) and issubclass(value, nn.Module):
            places[f"torch.nn.{name}"] = value
    places.update({name: sys.modules[name] for name in OURS if name in sys.modules})
    for name in ("calls", "course.checking.standin"):
        for key, value in vars(sys.modules.get(name, object)).items():
            if isinstance(value, type) and value.__module__ == name:
                places[f"{name}.{key}"] = value
    return places


class Watch:
    """What there was when this was made. `replaced()` names what has been exchanged since."""

    def __init__(self):
        self.places = _watched()
        self.before = {name: dict(vars(place)) for name, place in self.places.items()}
        self.code = {name: {key: value.__code__ for key, value in held.items() if type(value) is types.FunctionType}
                     for name, held in self.before.items()}

    def replaced(self) -> list[str]:
        found = []
        for name, place in self.places.items():
            held, now = self.before[name], vars(place)
            for key, value in held.items():
                if not callable(value) and not isinstance(value, (property, classmethod, staticmethod)):
                    continue
                if now.get(key) is not value or (
                        key in self.code[name] and value.__code__ is not self.code[name][key]):
                    found.append(f"{name}.{key}")
            for key in now.keys() - held.keys():        # something new that hides what was meant
                ours = name.partition(".")[0] in ("calls", "course")
                inherited = isinstance(place, type) and any(key in vars(base) for base in place.__mro__[1:])
                if (ours or inherited) and callable(now[key]):
                    found.append(f"{name}.{key}")
        return sorted(found)[:8]
