"""The machine: device, number format, seeds, several processes, what it is and how much memory it has."""

import contextlib
import os
import platform
import random
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
import torch.distributed as dist

from course.errors import CourseError, UsageError
from course.machine import host

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA if there is one, else the CPU (MPS only when asked for). An absent device is an error."""
    kind, _, index = str(name).partition(":")
    if kind not in DEVICES or (index and (kind != "cuda" or not index.isdecimal())):
        raise UsageError(f"There is no device '{name}'. There is: {', '.join(DEVICES)} (and cuda:0, cuda:1, ...).")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        if not torch.cuda.is_available():
            why = (
                "this torch was built without CUDA; install one of https://pytorch.org/get-started"
                if torch.version.cuda is None
                else "torch finds no NVIDIA GPU; `nvidia-smi` should list it, and the driver must suit "
                f"CUDA {torch.version.cuda}"
            )
            raise CourseError(f"CUDA was asked for, but {why}. Without a GPU: --device cpu.")
        if index and int(index) >= torch.cuda.device_count():
            have = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
            raise CourseError(f"There is no {name} here; there is {have}.")
        return torch.device(kind, int(index)) if index else torch.device(kind)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise CourseError("MPS was asked for, but it needs a Mac with Apple silicon. Here: --device cpu.")
    return torch.device(kind)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where it pays (CUDA); float32 elsewhere, so that a laptop's figures are plain float32."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def flush_denormals() -> None:
    """Let numbers below 1e-38 count as 0. Sharp attention makes many of them, and x86 processors are slow at them
    (`python3 -m benchmarks.gpt` says what that costs).
    """
    torch.set_flush_denormal(True)


def leave_out_cudnn_attention() -> None:
    """Let fused attention on a GPU be one of PyTorch's own. cuDNN's is faster on a Hopper GPU, but not for rows of many
    lengths: it compiles itself anew for each (PyTorch's pull request 155958).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def random_states() -> dict:
    """Where the random streams of Python, numpy and torch stand."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_states(states: dict) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


# Several processes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started; alone if nothing started it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def setup_distributed(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the group that torchrun announces in the environment (NCCL on CUDA, gloo elsewhere); else stay
    alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(), device
    processes = Processes(*(int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if device.type == "cuda":
        if processes.local_rank >= torch.cuda.device_count():
            raise CourseError(
                f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE', '?')} processes here, but there are "
                f"{torch.cuda.device_count()} GPUs. Start one process per GPU: --nproc-per-node."
            )
        device = torch.device("cuda", processes.local_rank)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return processes, device


def finish_distributed() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def wrap(model: torch.nn.Module, device: torch.device, all_used: bool = True) -> torch.nn.Module:
    """The model as DistributedDataParallel if there are several processes, itself otherwise.

    all_used: every parameter that learns has a gradient after every batch, in every process.
    """
    if dist.is_available() and dist.is_initialized():
        ids = [device.index] if device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(model, device_ids=ids, find_unused_parameters=not all_used)
    return model


def mean(value: float | torch.Tensor, device: torch.device) -> float:
    """The mean of a number over all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return float(value)
    total = torch.as_tensor(float(value), dtype=torch.float32, device=device)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


# The machine ------------------------------------------------------------------------------------------------


def hardware(device: torch.device | None = None) -> dict:
    """What the figures were measured on: for report.json and the README."""
    found = {
        "cpu": host.processor(),
        "cores": host.cores(),
        "memory_mb": host.memory_mb(),
        "gpu": None,
        "system": platform.system(),
    }
    if device is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_mb": round(properties.total_memory / 2**20)}
    return found


def versions() -> dict:
    names = ("torch", "numpy", "pillow", "regex", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def available_mb(device: torch.device) -> float:
    """Memory that a device has free, in MB: its own on a GPU with CUDA, the machine's otherwise."""
    return torch.cuda.mem_get_info(device)[0] / 2**20 if device.type == "cuda" else host.available_mb()


def peak_gpu_memory_mb(device: torch.device) -> float | None:
    """The most GPU memory that tensors have held so far, or None without CUDA."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
