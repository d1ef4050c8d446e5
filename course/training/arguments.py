"""The flags of `run` and of every step's train.py. Standard library only: what is asked for is read before anything is
installed for it.
"""

import argparse
import re
from typing import NoReturn

PRESETS = ("smoke", "tiny", "small", "base")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\nSee: {self.prog} --help\n")


def machine_arguments(one: argparse._ActionsContainer) -> None:
    """The flags that say which run is meant, on which machine."""
    one.add_argument(
        "--preset",
        choices=PRESETS,
        default="tiny",
        help="smoke: seconds, for tests; tiny: minutes on a CPU (default); small: one GPU; base: several GPUs",
    )
    one.add_argument(
        "--device", default="auto", type=device, help="auto (CUDA if there is one), cpu, cuda, cuda:1, mps"
    )
    one.add_argument("--out", metavar="FOLDER", help="where artifacts lie (default: artifacts/PRESET)")
    one.add_argument(
        "--code",
        choices=("chain", "solution"),
        default="chain",
        help="chain (default): your TODOs that pass, the solution for the rest; solution: it alone",
    )


def run_arguments(one: argparse._ActionsContainer) -> None:
    """The flags of `run` and of every step's train.py."""
    machine_arguments(one)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--resume", action="store_true", help="keep what is finished, go on where it was interrupted")


def device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise argparse.ArgumentTypeError(
            f"there is no device '{name}'. There is: auto, cpu, cuda (cuda:0, cuda:1, ...), mps"
        )
    return name


def training_arguments(one: argparse._ActionsContainer) -> None:
    """The flag that every step with a training loop has."""
    one.add_argument("--compile", action="store_true", help="compile the model with torch.compile first")
