"""A checkpoint folder as `save_pretrained` writes it: config.json beside safetensors, whole or in shards."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from course.errors import CourseError

WHOLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
SHOWN = 6  # names of tensors in a sentence


class WeightsError(CourseError):
    """A checkpoint that is missing, damaged, or of another kind than the course's classes can hold."""


def read_json(path: Path) -> dict:
    """A JSON object from a file, or a WeightsError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name}: it is not a checkpoint that transformers wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}). Get the file again.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds a {type(value).__name__}, and should hold an object with named settings.")
    return value


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint folder by name, from model.safetensors or from the shards that its index
    lists.
    """
    if (folder / WHOLE).exists():
        return _load(folder / WHOLE)
    if not (folder / INDEX).exists():
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        raise WeightsError(
            f"{folder} has no {WHOLE}"
            + (
                f", only {', '.join(pickles)}: a pickle, which can run any code, and is not read here. If you "
                "trust it, save it anew with transformers: CLASS.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), "
                "where config.json names the class under architectures."
                if pickles
                else " and no index of shards: the weights are missing."
            )
        )
    listed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(Path(str(shard)).name == shard for shard in listed.values()):
        raise WeightsError(f"{folder / INDEX} has no weight_map from tensors to files beside it. Get the file again.")
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(listed.values())):
        if not (folder / shard).exists():
            raise WeightsError(f"{folder} lacks {shard}, which {INDEX} lists. Get the file; the others can stay.")
        tensors.update(_load(folder / shard))
    if lost := [name for name in listed if name not in tensors]:
        raise WeightsError(f"The shards in {folder} do not hold what {INDEX} lists: {some(lost)}.")
    return tensors


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        size = path.stat().st_size
        raise WeightsError(
            f"{path} is damaged or cut off ({size:,} bytes; {error}). Remove it and get it again."
        ) from error


def load_strictly(module: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path) -> nn.Module:
    """Load `tensors` into `module` as its parameters' types, all of them and nothing else, and return it.

    Raises WeightsError, which names what is missing, what is left over and what has another shape.
    """
    wanted = module.state_dict()
    shapes = [
        f"{name} is {list(tensors[name].shape)} and should be {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        f"{what}: {some(names)}"
        for what, names in (
            ("missing", [name for name in wanted if name not in tensors]),
            ("unexpected", [name for name in tensors if name not in wanted]),
            ("other shapes", shapes),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"The weights in {folder} do not fit {type(module).__name__}.\n  " + "\n  ".join(problems))
    module.load_state_dict(tensors, strict=True)
    return module


def some(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(list(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
