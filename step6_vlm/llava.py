"""Real weights: a CLIP eye and a Llama learn to work together, on conversations in LLaVA's format.

    python3 -m step6_vlm.train --vision openai/clip-vit-base-patch16 --llm HuggingFaceTB/SmolLM2-135M-Instruct \\
        --data llava.json --images pictures/ --preset small

The learner's code and the two stages are those of train.py. New is what real data bring along: a folder of
pictures of any size, rows without a picture, entries that are broken, the checkpoint's own tokenizer and chat
template, and the question how much memory it takes. The picture stands in front of the conversation, wherever
`<image>` stands in the text. Left out: several pictures in one conversation, encoding each picture only once.
"""

import json
import random
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch

from course import kernels
from course.errors import CourseError, UsageError
from course.machine import compute
from course.machine.pictures import read_picture
from course.training.fit import fit
from course.weights import hub, models
from course.weights.memory import Memory, size, training_memory
from course.weights.processor import Processor, preprocessor_config
from course.weights.tokenizer import FolderChat, FolderTokenizer, tokenizer_as_files

PRESETS = {
    "smoke": dict(
        batch_size=4,
        accumulation=1,
        projection_steps=6,
        max_steps=6,
        max_length=256,
        held_out=4,
        projection_learning_rate=5e-3,
        learning_rate=1e-3,
    ),
    "tiny": dict(
        batch_size=4,
        accumulation=4,
        projection_steps=100,
        max_steps=200,
        max_length=1024,
        held_out=64,
        projection_learning_rate=1e-3,
        learning_rate=2e-5,
    ),
    # LLaVA-1.5's rates, and as many steps of 128 rows as make one epoch of its second stage (665,000 entries).
    "small": dict(
        batch_size=16,
        accumulation=8,
        projection_steps=2200,
        max_steps=5200,
        max_length=2048,
        held_out=256,
        projection_learning_rate=1e-3,
        learning_rate=2e-5,
    ),
    "base": dict(
        batch_size=16,
        accumulation=1,
        projection_steps=2200,
        max_steps=5200,
        max_length=2048,
        held_out=256,
        projection_learning_rate=1e-3,
        learning_rate=2e-5,
    ),
}
MARK = "<image>"
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
SHOWN = 5  # problems in an error
BUCKET = 32  # batches whose rows are sorted by length together
AHEAD = 2  # batches prepared while the model works
ANSWERS = 3  # shown at the end


class DataError(CourseError):
    """Conversations or pictures that cannot be trained on; the message names the entries."""


def add_arguments(parser) -> None:
    """Add the flags that make train.py train with real weights."""
    parser.add_argument(
        "--vision", metavar="CLIP", help="real weights: a CLIP's folder, or its name on the Hugging Face hub"
    )
    parser.add_argument("--llm", metavar="LLAMA", help="a Llama's folder with its tokenizer, or its name")
    parser.add_argument(
        "--data",
        metavar="JSON",
        nargs="+",
        help="conversations in LLaVA's format; of two files the first is for the projection alone",
    )
    parser.add_argument("--images", metavar="DIR", help="the folder in which the pictures of the conversations lie")
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out entries that cannot be used, and say how many"
    )
    parser.add_argument("--batch-size", type=int, help="rows a micro-batch, where the preset's take too much memory")
    parser.add_argument("--projection-steps", type=int, help="steps of the first stage")
    parser.add_argument("--steps", type=int, help="steps of the second stage")


def settings(preset: str, options) -> dict | None:
    """The preset's settings, changed by flags; None if no flag asks for real weights."""
    needed = {name: getattr(options, name) for name in ("vision", "llm", "data", "images")}
    changed = {
        "batch_size": options.batch_size,
        "projection_steps": options.projection_steps,
        "max_steps": options.steps,
    }
    changed = {name: value for name, value in changed.items() if value is not None}
    if not any(needed.values()):
        if changed:
            raise UsageError(
                "--batch-size, --projection-steps and --steps go with real weights: --vision, --llm, --data, --images."
            )
        return None
    if missing := [f"--{name}" for name, value in needed.items() if not value]:
        raise UsageError(
            f"Training with real weights takes --vision, --llm, --data and --images; {', '.join(missing)} is missing."
        )
    if len(options.data) > 2:
        raise UsageError("--data takes one file, or two: for the projection alone, then for both.")
    if wrong := [name for name, value in changed.items() if value < 1]:
        raise UsageError(f"{', '.join(wrong)} must be at least 1.")
    return {**PRESETS[preset], **changed}


# Conversations ----------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """One conversation: its number in the file, the name of its picture or None, and messages with our roles."""

    number: int
    image: str | None
    messages: list[dict]

    @property
    def length(self) -> int:
        return sum(len(message["content"]) for message in self.messages)


def read_conversations(
    path: Path, images: Path, special_tokens: Sequence[str] = (), skip_broken: bool = False, note=print
) -> list[Entry]:
    """The entries of a JSON file in LLaVA's format; no text may contain one of the special tokens.

    Raises DataError, which names what is wrong by the entry's number; with skip_broken these entries are left
    out, and `note` is told.
    """
    try:
        listed = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{path} must hold a list of conversations, as LLaVA's files do.")
    if not Path(images).is_dir():
        raise DataError(f"There is no folder {images} with the pictures.")
    entries, problems = [], []
    for number, raw in enumerate(listed):
        try:
            entries.append(read_entry(number, raw, Path(images), special_tokens))
        except ValueError as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        text = f"{path}: {len(problems):,} of {len(listed):,} entries cannot be used (the first entry is 0)."
        more = [f"and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        text = "\n  ".join([text, *problems[:SHOWN], *more])
        if not skip_broken or not entries:
            raise DataError(f"{text}\nMend them, or leave them out with --skip-broken.")
        note(f"{text}\nThey are left out.")
    return entries


def read_entry(number: int, raw, images: Path, special_tokens: Sequence[str] = ()) -> Entry:
    """One entry of the list. Raises ValueError that says what is wrong with it."""
    if not isinstance(raw, dict) or not isinstance(raw.get("conversations"), list) or not raw["conversations"]:
        raise ValueError("it has no conversations")
    messages = []
    for turn, spoken in enumerate(raw["conversations"]):
        if not isinstance(spoken, dict) or not isinstance(spoken.get("value"), str):
            raise ValueError(f"turn {turn} has no text (value)")
        if spoken.get("from") not in ROLES:
            raise ValueError(f"turn {turn} is from {spoken.get('from')!r}; there are human and gpt")
        messages.append({"role": ROLES[spoken["from"]], "content": spoken["value"]})
        if messages[-1]["role"] != ("user", "assistant")[turn % 2]:
            raise ValueError(
                f"turn {turn} is from {spoken['from']}, and it is not their turn: human and gpt alternate, human begins"
            )
    if len(messages) % 2:
        raise ValueError("its last word is the human's: there is no answer to learn")
    if empty := [
        turn
        for turn, message in enumerate(messages)
        if message["role"] == "assistant" and not message["content"].strip()
    ]:
        raise ValueError(f"the answer in turn {empty[0]} is empty")
    image, marks = raw.get("image"), sum(message["content"].count(MARK) for message in messages)
    if isinstance(image, list) or marks > 1:
        raise ValueError("it has several pictures; this course puts one in front of a conversation")
    if image is None and marks:
        raise ValueError(f"it says {MARK} and names no picture (image)")
    if image is not None:
        if not isinstance(image, str) or PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts:
            raise ValueError(f"its picture {image!r} is no path inside the folder of pictures")
        if not (images / image).is_file():
            raise ValueError(f"its picture {image} is not in {images}")
    for message in messages:
        message["content"] = message["content"].replace(MARK, "").strip()
        if tokens := [token for token in special_tokens if token in message["content"]]:
            raise ValueError(f"it says {tokens[0]}, which means something else to this checkpoint")
    return Entry(number, image, messages)


@dataclass
class Conversations:
    """Micro-batch i of conversations: rows of about the same length, with pictures or all without; each epoch
    in a new order.

    Pictures are read and prepared in threads, some batches ahead of the model; the eye looks at them when it
    is their turn.
    """

    chat: FolderChat
    entries: Sequence[Entry]
    images: Path
    processor: Processor
    see: object  # pictures [B, 3, H, W] -> features [B, P, D]
    batch_size: int
    seed: int
    skip_broken: bool = False  # leave out rows whose picture cannot be read
    stride: int = 1  # this process asks for every stride-th batch
    kept: tuple = (None, [])  # the newest epoch and its batches
    waiting: dict[int, Future] = field(default_factory=dict)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AHEAD + 1))

    def epoch(self, number: int) -> list[list[Entry]]:
        """All entries in batches; every epoch has the same number of them."""
        if self.kept[0] != number:
            rng = random.Random(f"{self.seed} llava {number}")
            batches = []
            for with_picture in (True, False):
                entries = [entry for entry in self.entries if (entry.image is not None) == with_picture]
                rng.shuffle(entries)
                for i in range(0, len(entries), self.batch_size * BUCKET):
                    rows = sorted(entries[i : i + self.batch_size * BUCKET], key=lambda entry: entry.length)
                    batches += [rows[j : j + self.batch_size] for j in range(0, len(rows), self.batch_size)]
            rng.shuffle(batches)
            self.kept = number, batches
        return self.kept[1]

    def rows(self, i: int) -> list[Entry]:
        count = len(self.epoch(0 if self.kept[0] is None else self.kept[0]))
        return self.epoch(i // count)[i % count]

    def picture(self, entry: Entry) -> torch.Tensor:
        try:
            return self.processor(read_picture(self.images / entry.image))
        except ValueError as error:
            raise DataError(
                f"entry {entry.number}: {error}. Mend it or take the entry out, and go on with --resume."
            ) from error

    def readable(self, entry: Entry) -> bool:
        try:
            self.picture(entry)
            return True
        except DataError:
            return False

    def prepare(self, rows: Sequence[Entry]) -> dict[str, torch.Tensor]:
        """ids, labels and, where there are pictures, pixel_values [B, 3, H, W] of some entries."""
        seeing = rows[0].image is not None
        if seeing:
            pictures = []
            for entry in rows:
                try:
                    pictures.append((entry, self.picture(entry)))
                except DataError:
                    if not self.skip_broken:
                        raise
            if not pictures:
                raise DataError(f"all pictures of a batch are broken, that of entry {rows[0].number} first.")
            rows = [entry for entry, _ in pictures]
        try:
            batch = self.chat.batch([entry.messages for entry in rows])
        except ValueError as error:
            raise DataError(f"one of the entries {', '.join(str(entry.number) for entry in rows)}: {error}") from error
        if (batch["labels"][:, 1:] < 0).all():
            raise DataError(
                f"entry {rows[0].number}: its first question alone is longer than {self.chat.limit} tokens."
            )
        if seeing:
            batch["pixel_values"] = torch.stack([pixels for _, pixels in pictures])
        return batch

    def looked_at(self, batch: dict) -> dict[str, torch.Tensor]:
        """The batch with the eye's features in place of the pictures."""
        pictures = batch.pop("pixel_values", None)
        return batch if pictures is None else {**batch, "features": self.see(pictures.to(self.chat.device))}

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        for j in range(i, i + (AHEAD + 1) * self.stride, self.stride):
            if j not in self.waiting:
                self.waiting[j] = self.threads.submit(self.prepare, self.rows(j))
        return self.looked_at(self.waiting.pop(i).result())


def held_out(entries: Sequence[Entry], count: int, seed: int) -> tuple[list[Entry], list[Entry]]:
    """(entries to train on, entries to measure on): of those with pictures up to `count`, but no more than a tenth."""
    seen = [entry for entry in entries if entry.image is not None]
    kept = random.Random(f"{seed} held out").sample(seen, min(count, len(seen) // 10))
    numbers = {entry.number for entry in kept}
    return [entry for entry in entries if entry.number not in numbers], kept


# The recipe -------------------------------------------------------------------------------------------------


def train(job) -> dict:
    """Train in two stages; figures: loss on held-out answers before and after, seeing and blind, and the memory."""
    options = job.options
    vision_folder, llm_folder = hub.locate(options.vision), hub.locate(options.llm)
    trainer, vlm = job.use("step3_pretrain"), job.use("step6_vlm")
    gpt = kernels.use(job.use("step2_gpt"), job.device, compiled=getattr(options, "compile", False))
    chat = FolderChat(FolderTokenizer(llm_folder), job.use("step4_sft"), job.device)
    files = read_files(job, chat)
    before = job.peaks()[0]  # what Python and the libraries take by themselves
    free = compute.available_mb(job.device) * 2**20
    job.note(f"loading {options.vision} and {options.llm}")
    model = read_models(vlm, gpt, vision_folder, llm_folder).to(job.device)
    chat.limit = tokens_left(job, model, chat)
    stages, unseen = share_out(job, files)
    estimated = estimate(job, model, chat, [*stages[0], *stages[1]], free)
    processor = Processor.read(vision_folder, model.vision.config.image_size)
    first, second = (
        batches(job, model, chat, processor, entries, job.seed + number) for number, entries in enumerate(stages)
    )
    if options.skip_broken:
        unseen = [entry for entry in unseen if second.readable(entry)]
    losses, history = two_stages(job, trainer, model, first, second, unseen)

    used = job.peaks()[1] * 2**20 if job.device.type == "cuda" else (job.peaks()[0] - before) * 2**20
    job.note(f"memory, used at the peak: {size(used)}; estimated were {size(estimated)}")
    answers = show(job, model, second, unseen[:ANSWERS])
    figures = {
        **losses,
        "memory_estimated_mb": round(estimated / 2**20),
        "memory_used_mb": round(used / 2**20),
        "entries": [len(entries) for entries in stages],
        "held_out": len(unseen),
    }
    save(job, model, chat, processor, figures, history, answers)
    return figures


def read_files(job, chat: FolderChat) -> list[list[Entry]]:
    """The entries of each file of --data."""
    images, words = Path(job.options.images).expanduser(), chat.tokenizer.hf.all_special_tokens
    return [read_conversations(path, images, words, job.options.skip_broken, job.note) for path in job.options.data]


def read_models(vlm, gpt, vision_folder: Path, llm_folder: Path) -> torch.nn.Module:
    """A VLM around the two checkpoints, in the classes of steps 6 and 2; only its projection is new."""
    llm, eye = models.read_llm(gpt, llm_folder), models.read_vision(vlm, vision_folder)
    return vlm.VLM(llm, eye.config.hidden_size, llm.config.hidden_size, eye.config.num_patches, eye)


def tokens_left(job, model, chat: FolderChat) -> int:
    """How many tokens of a row are left beside the picture. Raises CourseError where tokenizer and checkpoints do not
    go together."""
    name, config = job.options.llm, model.llm.config
    left = config.max_position_embeddings - model.num_patches
    if left < 16:
        raise CourseError(
            f"{name} reads {config.max_position_embeddings} tokens, and a picture takes {model.num_patches}."
        )
    if chat.tokenizer.plain:
        job.note(f"{name} has no chat template: USER: ... ASSISTANT: ..., as in LLaVA-1.5, it is.")
    if chat.tokenizer.vocab_size > config.vocab_size:
        raise CourseError(
            f"The tokenizer of {name} has {chat.tokenizer.vocab_size} ids, its model {config.vocab_size}."
        )
    return min(job.settings["max_length"], left)


def share_out(job, files: Sequence[list[Entry]]) -> tuple[list[list[Entry]], list[Entry]]:
    """(the entries of each stage, those to measure on). Of two files the first is for the first stage; one serves
    both."""
    entries, unseen = held_out(files[-1], job.settings["held_out"], job.seed)
    alone = [entry for entry in (files[0] if len(files) > 1 else entries) if entry.image is not None]
    stages = [alone, entries]  # words alone teach a projection nothing, so its stage has only entries with pictures
    if not all(stages):
        raise DataError(f"{' and '.join(job.options.data)} have no entry with a picture to train on.")
    job.note(f"{len(alone):,} and {len(entries):,} entries to train on, {len(unseen):,} to measure on")
    return stages, unseen


def estimate(job, model, chat: FolderChat, entries: Sequence[Entry], free: float) -> int:
    """Bytes that training will take at its peak; says how many in each stage, beside those that are free."""
    batch_size = job.settings["batch_size"]
    needed = memory_of_stages(job, model, chat, entries, batch_size)
    most = max(memory.total for memory in needed.values())
    stages = "; ".join(f"{stage} {memory}" for stage, memory in needed.items())
    job.note(f"memory, estimated: {stages}; free: {size(free)}")
    if most > free:
        job.note(f"That is more than there is: a smaller --batch-size than {batch_size} takes less.")
    return most


def memory_of_stages(job, model, chat: FolderChat, entries: Sequence[Entry], batch_size: int) -> dict[str, Memory]:
    """What each stage will take at its peak, from the longest entry."""
    longest = max(entries, key=lambda entry: entry.length)
    tokens = len(chat.row(longest.messages)[0]) + (model.num_patches if longest.image is not None else 0)
    count = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("all", model), ("llm", model.llm), ("projection", model.projection))
    }
    bf16 = job.device.type == "cuda"
    return {
        stage: training_memory(
            count["all"], learning, model.llm.config, model.vision.config, batch_size, tokens, llm_learns, bf16
        )
        for stage, learning, llm_learns in (
            ("projection alone", count["projection"], False),
            ("projection and language model", count["projection"] + count["llm"], True),
        )
    }


def batches(job, model, chat: FolderChat, processor: Processor, entries: Sequence[Entry], seed: int) -> Conversations:
    """Micro-batches of a stage's entries, with what the model's eye says about their pictures."""

    def see(pictures: torch.Tensor) -> torch.Tensor:
        with job.autocast():
            return model.see(pictures)

    return Conversations(
        chat,
        entries,
        Path(job.options.images).expanduser(),
        processor,
        see,
        job.settings["batch_size"],
        seed,
        job.options.skip_broken,
        job.world_size,
    )


def two_stages(
    job, trainer, model, first: Conversations, second: Conversations, unseen: Sequence[Entry]
) -> tuple[dict[str, dict], dict[str, list]]:
    """Train the projection alone on `first`, then projection and language model on `second`; returns the losses on
    `unseen` before, between and after, and the curves of both stages."""
    settings, losses, kept = job.settings, {}, job.resumed().get("stages", {})

    def measured(name: str) -> None:
        if unseen:
            losses[name] = kept.get(name) or measure(job, model, second, unseen, "held out")
            job.stages[name] = losses[name]  # `fit` keeps it in every checkpoint

    measured("loss_before")
    model.llm.requires_grad_(False)
    alone = config(trainer, settings["projection_steps"], settings["projection_learning_rate"], settings)
    curve = fit(job, model, first, alone, stage="projection alone")
    measured("loss_projection_alone")
    model.llm.requires_grad_(True)
    both = config(trainer, settings["max_steps"], settings["learning_rate"], settings)
    all_used = all(entry.image is not None for entry in second.entries)  # words alone leave the projection unused
    curve_2 = fit(job, model, second, both, stage="projection and language model", all_used=all_used)
    measured("loss")
    return losses, {"loss, projection only": curve, "loss, projection and language model": curve_2}


def config(trainer, steps: int, rate: float, settings: dict):
    """A stage's TrainConfig: LLaVA's warm-up over 3% of the steps, and no weight decay."""
    return trainer.TrainConfig(
        max_steps=steps,
        learning_rate=rate,
        min_lr=0.0,
        warmup_steps=max(1, steps * 3 // 100),
        weight_decay=0.0,
        accumulation=settings["accumulation"],
    )


@torch.no_grad()
def measure(job, model, data: Conversations, entries: Sequence[Entry], label: str) -> dict[str, float]:
    """Loss per answer token on held-out entries, with their own pictures and, blind, with their neighbours'."""
    was_training, totals, tokens = model.training, {"sighted": 0.0, "blind": 0.0}, 0
    model.eval()
    with job.bar(len(entries), label, unit="entry") as bar, job.autocast():
        for i in range(0, len(entries), data.batch_size):
            rows = entries[i : i + data.batch_size]
            rows = rows if len(rows) > 1 else [*entries[:1], *rows]  # one alone has no neighbour
            batch = data.looked_at(data.prepare(rows))
            count = int((batch["labels"][:, 1:] >= 0).sum())
            for name, features in (("sighted", batch["features"]), ("blind", batch["features"].roll(1, 0))):
                totals[name] += float(model(**{**batch, "features": features})[1]) * count
            tokens += count
            bar.update(len(rows))
    model.train(was_training)
    return {name: total / tokens for name, total in totals.items()}


def show(job, model, data: Conversations, entries: Sequence[Entry]) -> list[dict]:
    """What the model says about some held-out pictures, printed beside what it should have said."""
    if not entries:
        return []
    asked = [entry.messages[0]["content"] for entry in entries]
    features = data.looked_at(data.prepare(entries))["features"]
    with job.autocast():
        replies = data.chat.replies(model, asked, features, max_new_tokens=60)
    answers = [
        {"image": entry.image, "question": question, "truth": entry.messages[1]["content"], "answer": reply}
        for entry, question, reply in zip(entries, asked, replies)
    ]
    for answer in answers:
        job.note(
            f"{answer['image']}: {answer['question']}\n  it says: {answer['answer']}\n  truth:   {answer['truth']}"
        )
    return answers


def save(job, model, chat: FolderChat, processor: Processor, figures: dict, history: dict, answers: list[dict]) -> None:
    """Leave the artifact, with all that `export` needs to write a checkpoint for others."""
    job.save(
        tensors=model.state_dict(),
        config={
            "llm": model.llm.config.__dict__,
            "vision": model.vision.config.__dict__,
            "weights": {"vision": job.options.vision, "llm": job.options.llm},
            "processor": preprocessor_config(processor.size, processor.mean, processor.std),
            "end": chat.end,
            "pad": chat.pad,
        },
        figures=figures,
        history=history,
        files={
            "answers.json": json.dumps(answers, ensure_ascii=False, indent=1),
            **tokenizer_as_files(chat.tokenizer.hf),
        },
    )
