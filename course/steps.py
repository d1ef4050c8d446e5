"""The list of lessons and their TODOs: the one place that knows the folder names.

Nothing here imports torch, so that the command line starts quickly. A step's files are executed from their
current text and under a unique module name: six files called `model_exercise` never collide, and an edit is
never stale.
"""

import difflib
import inspect
import itertools
import linecache
import re
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from course.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent

FILES = {  # "stored" is there in a copy for students, in place of the solution and the mistakes (checking/stored.py)
    "exercise": "model_exercise.py",
    "solution": "model_solution.py",
    "checks": "checks.py",
    "mistakes": "mistakes.py",
    "train": "train.py",
    "ask": "ask.py",
    "stored": "stored_cases.bin",
}


class UnknownName(UsageError):
    """A step or TODO that does not exist; the message lists what there is and the nearest match."""


@dataclass(frozen=True)
class Step:
    """One room, that is one lesson: its folder, a title, the ids of its TODOs in order, and about how long it takes.

    A step is a room at the top, `step6_vlm`. A side room lies in a step's folder, `step6_vlm/systems`, and is known by
    its last word, which is unique in the course.
    """

    name: str
    title: str
    todos: tuple[str, ...]
    hours: float
    root: Path = ROOT  # of a copy, or of the tests

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def is_side(self) -> bool:
        return "/" in self.name

    @property
    def number(self) -> int:
        """The 6 of `step6_vlm`; 0 for a side room, and for a name without a number."""
        found = re.fullmatch(r"step(\d+)(_\w*)?", self.name)
        return int(found.group(1)) if found else 0

    @property
    def short(self) -> str:
        """How ids name the room: `step6` in `step6.projection`, `systems` in `systems.cpe`."""
        return short_name(self.name)

    @property
    def slug(self) -> str:
        """The name as one plain word, for files and modules: `step6_vlm_systems`."""
        return self.name.replace("/", "_")

    @property
    def package(self) -> str:
        """Where `python3 -m` finds the room's train.py: `step6_vlm.systems`."""
        return self.name.replace("/", ".")

    def file(self, which: str) -> Path:
        """The path of one of the room's files: a key of FILES, such as "exercise"."""
        return self.folder / FILES[which]


StepName = Step | str | int  # how a room may be named: see find_step


def short_name(name: str) -> str:
    """`step6` for `step6_vlm`, `systems` for `step6_vlm/systems`, and whatever else there is as it is."""
    found = re.fullmatch(r"(step\d+)(_\w*)?", name)
    return found.group(1) if found else name.rpartition("/")[2]


# All rooms in the order of learning: a step, then its side rooms.
ROOMS = (
    Step(
        "step1_tokenizer",
        "A tokenizer: from bytes to tokens",
        ("pair_counts", "merge", "train_bpe", "encode", "decode", "special_tokens"),
        2,
    ),
    Step(
        "step2_gpt",
        "A GPT: from tokens to a guess at the next one",
        (
            "rms_norm",
            "rope",
            "attention",
            "grouped_query_attention",
            "swiglu",
            "block",
            "gpt_forward",
            "sample",
            "generate",
        ),
        4,
    ),
    Step(
        "step3_pretrain",
        "Pretraining: learning from text",
        ("next_token_batch", "learning_rate", "train_step", "bits_per_byte"),
        2,
    ),
    Step("step4_sft", "Supervised fine-tuning: learning to answer", ("chat_template", "loss_mask", "collate"), 2),
    Step(
        "step5_rlhf",
        "Preferences: learning which answer is better",
        ("sequence_logprobs", "reward_loss", "dpo_loss"),
        2,
    ),
    Step(
        "step6_vlm",
        "A vision-language model: learning to see",
        (
            "patch_embed",
            "vit_block",
            "clip_vit",
            "freeze",
            "projection",
            "token_concat",
            "place_tokens",
            "vlm_labels",
            "vlm_forward",
            "vlm_generate",
            "contrastive_loss",
        ),
        5,
    ),
)


STEPS = tuple(room for room in ROOMS if not room.is_side)


def unknown(kind: str, text: str, names: Iterable[str]) -> UnknownName:
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    ask = f" Did you mean {near[0]}?" if near else ""
    return UnknownName(f"There is no {kind} {text!r}.{ask} There is: {', '.join(names)}")


def find_step(text: StepName) -> Step:
    """The room that `text` names: "6", 6, "step6", "step6_vlm", "vlm", "systems" or a path of its folder; a Step
    passes through. Raises UnknownName.
    """
    if isinstance(text, Step):
        return text
    name = Path(str(text).strip()).name.lower()
    for room in ROOMS:
        names = {room.name, room.name.rpartition("/")[2], room.short}
        if room.number:
            names |= {str(room.number), room.name.partition("_")[2]}
        if name in names:
            return room
    raise unknown("step", str(text), [room.short if room.is_side else room.name for room in ROOMS])


def find(text: StepName) -> tuple[Step, str | None]:
    """The room and TODO that `text` names: "step6.projection", "projection", "systems.cpe", or "step6" (then the TODO
    is None). Raises UnknownName.
    """
    if isinstance(text, Step):
        return text, None
    head, dot, todo = str(text).strip().partition(".")
    if not dot:
        owners = [room for room in ROOMS if head in room.todos]
        if len(owners) == 1:
            return owners[0], head
        return find_step(head), None
    room = find_step(head)
    if todo not in room.todos:
        raise unknown(f"TODO in {room.name} called", todo, room.todos)
    return room, todo


def select(text: str) -> tuple[list[Step], str | None]:
    """(rooms, TODO or None) of what `find` knows, or of "step5+": a step with its side rooms. Raises UnknownName."""
    if not text.strip().endswith("+"):
        room, todo = find(text)
        return [room], todo
    step = find_step(text.strip()[:-1])
    return [room for room in ROOMS if room == step or room.name.startswith(f"{step.name}/")], None


_number = itertools.count(1)


def execute(source: str | bytes, file: str | Path, name: str, shown_as: str | None = None) -> types.ModuleType:
    """Run `source` as a new module and return it.

    `file` becomes its `__file__`; the unique module name starts with `name`. Where the text is not what lies
    in the file (bodies filled in, a mistake patched in), `shown_as` names it in tracebacks, which then show
    these lines. Whatever the code raises comes through; the module stays in sys.modules (dataclasses look
    there) unless it raised.
    """
    module = types.ModuleType(f"{name}_{next(_number)}")
    shown = shown_as or str(file)  # what this code's frames carry as their file
    vars(module).update(__file__=str(file), __source__=source, __shown__=shown)
    code = compile(source, shown, "exec", dont_inherit=True)
    if shown_as:
        text = source.decode() if isinstance(source, bytes) else source
        linecache.cache[shown] = (len(text), None, text.splitlines(keepends=True), shown)
    else:
        linecache.checkcache(shown)
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    return module


def forget(module: types.ModuleType) -> None:
    """Take a module that `execute` made out of sys.modules, so that it can be freed."""
    sys.modules.pop(module.__name__, None)


def load(step: StepName, which: str, path: str | Path | None = None) -> types.ModuleType:
    """Execute one of a step's files as it is on disk now: "exercise", "solution", "checks", "mistakes" or
    "train".

    `path` names another file to run in its place (a submission). Raises what the file raises, and
    FileNotFoundError.
    """
    step = find_step(step)
    path = Path(path) if path is not None else step.file(which)
    return execute(path.read_bytes(), path, f"course_{step.slug}_{which}")


def source_of(module: types.ModuleType) -> str | bytes:
    """The text that a module was made from."""
    return getattr(module, "__source__", None) or inspect.getsource(module)
