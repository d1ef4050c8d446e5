"""What steps leave on disk: written whole or not at all, and without pickle.

An artifact is a folder: `artifact.json` (config, seed, figures, whose code made it, a hash of the rest),
`model.safetensors`, `history.json` and whatever small files a step adds. A state (a checkpoint) is one
safetensors file whose header carries the nested part as JSON, so that one rename makes it appear.
"""

import base64
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from course.machine.files import FileError, explained, fsync, replacing_file

MANIFEST, TENSORS, HISTORY = "artifact.json", "model.safetensors", "history.json"


class ArtifactError(FileError):
    """An artifact or checkpoint is missing or damaged."""


def plain(value: object) -> Any:
    """`value` as JSON can hold it: tensors and numpy numbers become numbers, NaN and infinity None, paths
    strings.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    raise TypeError(f"{type(value).__name__} has no place in JSON: {value!r}")


def to_json(value: object) -> str:
    return json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# Nested states ----------------------------------------------------------------------------------------------


def flatten(state: object) -> tuple[object, dict[str, torch.Tensor]]:
    """Split a nested state into a JSON tree and its tensors, which the tree names as {"$tensor": name}.

    Holds what training states are made of: dicts with any plain keys (an optimizer's are ints), lists,
    tuples, tensors, numpy arrays, bytes, numbers, strings, None.
    """
    tensors: dict[str, torch.Tensor] = {}

    def walk(value):
        if isinstance(value, torch.Tensor):
            name = f"t{len(tensors)}"
            # A copy, because safetensors refuses memory that two names share (tied weights).
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
            return {"$tensor": name}
        if isinstance(value, np.ndarray):
            return {"$numpy": walk(torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape))}
        if isinstance(value, np.generic):
            return walk(value.item())
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: walk(item) for key, item in value.items()}
            return {"$items": [[walk(key), walk(item)] for key, item in value.items()]}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, tuple):
            return {"$tuple": [walk(item) for item in value]}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"a state holds tensors, numbers, strings, lists and dicts, not {type(value).__name__}")

    return walk(state), tensors


def unflatten(tree: object, tensors: dict[str, torch.Tensor]) -> Any:
    """The inverse of `flatten`."""
    if isinstance(tree, list):
        return [unflatten(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$tensor" in tree:
        return tensors[tree["$tensor"]]
    if "$numpy" in tree:
        return unflatten(tree["$numpy"], tensors).numpy()
    if "$items" in tree:
        return {unflatten(key, tensors): unflatten(item, tensors) for key, item in tree["$items"]}
    if "$tuple" in tree:
        return tuple(unflatten(item, tensors) for item in tree["$tuple"])
    if "$bytes" in tree:
        return base64.b64decode(tree["$bytes"])
    return {key: unflatten(item, tensors) for key, item in tree.items()}


def save_state(path: Path, state: object, stamp: dict) -> None:
    """Write a nested state and its stamp (what made it) as one safetensors file, whole or not at all."""
    tree, tensors = flatten(state)
    with replacing_file(path) as temporary, as_os_error():
        save_file(tensors, temporary, metadata={"state": json.dumps({"tree": tree, "stamp": plain(stamp)})})


@contextlib.contextmanager
def as_os_error() -> Iterator[None]:
    """safetensors writes in Rust and tells a full disk in words only: make it the error that Python would raise."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def load_stamp(path: Path) -> dict:
    """What made the state at `path`, without reading its tensors."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["state"])["stamp"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Remove it and start this step without --resume.") from error


def load_state(path: Path) -> Any:
    """Read back what `save_state` wrote (tensors on the CPU)."""
    try:
        with safe_open(path, "pt") as file:
            tree = json.loads(file.metadata()["state"])["tree"]
            return unflatten(tree, {name: file.get_tensor(name) for name in file.keys()})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Remove it and start this step without --resume.") from error


# Artifacts --------------------------------------------------------------------------------------------------


def hash_files(folder: Path, config: object) -> str:
    """sha256 over an artifact's payload: its config and files, but not figures, times and curves."""
    total = hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode())
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, HISTORY):
            one = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    one.update(block)
            total.update(f"{name}\0{one.hexdigest()}\n".encode())
    return total.hexdigest()


def recover(folder: Path) -> None:
    """Put the old artifact back if a kill fell between the two renames of `replacing`."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        with explained(folder):
            os.rename(old, folder)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end: never half of it, never a mixture.

    It is made beside its place, synced, then renamed; if filling it fails, the old one stays.
    """
    folder = Path(folder)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.old")
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover(folder)
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir()
            yield new
            for path in new.rglob("*"):
                if path.is_file():
                    fsync(path)
            fsync(new)
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                os.rename(folder, old)
            os.rename(new, folder)
            fsync(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            recover(folder)
        shutil.rmtree(old, ignore_errors=True)


def save_artifact(
    folder: Path,
    manifest: dict,
    tensors: Mapping[str, torch.Tensor] | None = None,
    history: Mapping | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> None:
    """Write the artifact `folder`, whole or not at all.

    tensors: name -> tensor; files: name (may contain /) -> str | bytes; manifest gets the payload's "hash".
    """
    with replacing(folder) as new:
        if tensors is not None:
            save_tensors(new / TENSORS, tensors)
        if history is not None:
            curves = history if "curves" in history else {"curves": history}
            (new / HISTORY).write_text(to_json(curves), encoding="utf-8")
        for name, content in (files or {}).items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        (new / MANIFEST).write_text(
            to_json({**manifest, "hash": hash_files(new, manifest.get("config"))}), encoding="utf-8"
        )


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write name -> tensor as safetensors, the way transformers reads them; tied tensors become two."""
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    with as_os_error():
        save_file(copies, path, metadata={"format": "pt"})


@dataclass
class Artifact:
    """An artifact on disk, its hash verified on loading; tensors are read when first asked for."""

    path: Path
    manifest: dict

    @property
    def config(self) -> dict:
        return self.manifest.get("config") or {}

    @property
    def figures(self) -> dict:
        return self.manifest.get("figures") or {}

    @property
    def hash(self) -> str:
        return self.manifest["hash"]

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / TENSORS) if (self.path / TENSORS).exists() else {}

    @cached_property
    def history(self) -> dict:
        path = self.path / HISTORY
        return json.loads(path.read_text(encoding="utf-8"))["curves"] if path.exists() else {}

    def text(self, name: str) -> str:
        """The content of one of the step's own files, e.g. "tokenizer.json"."""
        return (self.path / name).read_text(encoding="utf-8")


def load_artifact(folder: Path, remake: str) -> Artifact:
    """Open the artifact in `folder`; `remake` is the command that makes it, for the error's sake."""
    folder = Path(folder)
    recover(folder)
    if not (folder / MANIFEST).exists():
        raise ArtifactError(f"There is nothing from {folder.name} in {folder.parent} yet. Make it with:  {remake}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        intact = manifest["hash"] == hash_files(folder, manifest["config"])
        problem = "its files are not those that were written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        intact, problem = False, f"{MANIFEST}: {error}"
    if not intact:
        raise ArtifactError(f"The artifact {folder} is damaged ({problem}). Make it again with:  {remake}")
    return Artifact(folder, manifest)
