"""A language model learns to see: first the projection alone, then projection and language model together.

    python3 -m step6_vlm.train --preset tiny

    python3 -m step6_vlm.train --vision CLIP --llm LLAMA --data llava.json --images DIR     (real weights: see llava.py)

The eye (step6_vlm/weights, made by step6_vlm/train_clip.py) stays frozen. What it says about a picture never changes,
so every picture is looked at once and its features are kept. Needs the artifacts of steps 1 to 5.
"""

import base64
import functools
import io
import json
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from course.training.arguments import training_arguments
from course.training.chat import Chat
from course.training.fit import fit, load_model, load_tokenizer
from course.world import describe, pixels, questions, sample_scenes
from course.world.exam import conversation, exam, prompt, score
from step6_vlm import llava
from step6_vlm.train_clip import load_eye, normalize, picture_settings

PRESETS = {
    "smoke": dict(
        scenes=64,
        batch_size=4,
        turns=3,
        projection_steps=3,
        max_steps=4,
        projection_learning_rate=2e-3,
        learning_rate=1e-3,
        warmup_steps=1,
        exam_scenes=4,
        text_every=3,
        nameless_every=4,
    ),
    # Few questions a row: later ones can be answered from the answers before them, without a look at the picture.
    "tiny": dict(
        scenes=16_000,
        batch_size=8,
        turns=3,
        projection_steps=300,
        max_steps=5500,
        projection_learning_rate=2e-3,
        learning_rate=3e-3,
        warmup_steps=50,
        exam_scenes=200,
        text_every=10,
        nameless_every=4,
        muon=True,
    ),
    "small": dict(
        scenes=24_000,
        batch_size=64,
        turns=3,
        projection_steps=100,
        max_steps=1200,
        projection_learning_rate=2e-3,
        learning_rate=1.7e-3,
        warmup_steps=50,
        exam_scenes=300,
        text_every=10,
        nameless_every=4,
        muon=True,
    ),
    "base": dict(
        scenes=500_000,
        batch_size=64,
        turns=8,
        projection_steps=1000,
        max_steps=8000,
        projection_learning_rate=1e-3,
        learning_rate=5e-5,
        warmup_steps=100,
        exam_scenes=1000,
        text_every=8,
        nameless_every=4,
    ),
}
EVIDENCE = 0.6  # share of the answers that name their evidence
BUCKET = 32  # batches whose rows are sorted by length together
QUESTIONS_PER_SCENE = 3  # in the exam
GALLERY = 12  # pictures in the report


def add_arguments(parser) -> None:
    training_arguments(parser)
    llava.add_arguments(parser)


def choose(preset: str, options) -> tuple[dict, str]:
    """The settings, and the name of the folder under artifacts/. Training with real weights has its own."""
    real = llava.settings(preset, options)
    return (PRESETS[preset], preset) if real is None else (real, f"llava_{preset}")


@torch.no_grad()
def look(eye, pictures: np.ndarray, device, bar=None) -> torch.Tensor:
    """What a frozen eye says about uint8 pictures [N, 3, H, W]: features [N, P, D], kept on the CPU."""
    features = []
    for i in range(0, len(pictures), 256):
        features.append(eye(normalize(pictures[i : i + 256]).to(device)).float().cpu())
        if bar is not None:
            bar.update(len(features[-1]))
    return torch.cat(features)


@dataclass
class Batches:
    """Micro-batch i of conversations about pictures: rows of about the same length, each scene as often as the others.

    Every `text_every`-th one is text only, scenes told in words as in step 4: the model shall learn to see and not
    forget to read. Every `nameless_every`-th one shows the scenes in colours that have no name, and where the answers
    would say them, they have a blank: a star is a star in any colour, also in one in which no training scene has one.
    """

    chat: Chat
    scenes: list
    features: torch.Tensor  # [N, P, D], one for each scene
    nameless: torch.Tensor  # [M, P, D], of the first M scenes in nameless colours
    vlm: object  # this step's code
    batch_size: int
    turns: int
    text_every: int  # 0: never
    nameless_every: int  # 0: never
    seed: int
    kept: dict = field(default_factory=dict)  # the newest bucket

    def talk(self, i: int, seed: int, told: bool = False, nameless: bool = False) -> list[dict]:
        return conversation(self.scenes[i], random.Random(seed), self.turns, EVIDENCE, told, nameless)

    def bucket(self, number: int) -> list:
        if number not in self.kept:
            rng = random.Random(f"{self.seed} vlm {number}")
            chosen = rng.sample(range(len(self.scenes)), min(len(self.scenes), self.batch_size * BUCKET))
            talks = [(i, rng.getrandbits(60)) for i in chosen]
            rows = sorted(((i, seed, self.talk(i, seed)) for i, seed in talks), key=lambda r: len(str(r[2])))
            parts = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            rng.shuffle(parts)
            self.kept = {number: parts}
        return self.kept[number]

    def __call__(self, i: int) -> dict:
        parts = self.bucket(i // BUCKET)
        rows = parts[i % BUCKET % len(parts)]
        if self.text_every and i % self.text_every == self.text_every - 1:
            return self.chat.batch([self.talk(i, seed, told=True) for i, seed, _ in rows])
        if self.nameless_every and i % self.nameless_every == self.nameless_every - 1:
            rows = [(i % len(self.nameless), seed) for i, seed, _ in rows]
            talks, features = [self.talk(i, seed, nameless=True) for i, seed in rows], self.nameless
        else:
            talks, features = [talk for _, _, talk in rows], self.features
        batch = self.chat.batch(talks)
        batch["labels"] = self.vlm.vlm_labels(batch["input_ids"], self.chat.special)
        batch["features"] = features[[row[0] for row in rows]].to(self.chat.device)
        return batch


def controls(features: torch.Tensor, black: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """What a blind model is shown instead of N pictures' features: black paper, the next picture, nothing at all."""
    return {
        "blind_black": black.expand_as(features),
        "blind_other_picture": features.roll(7, 0),  # 7 further on it is another scene's
        "blind_text_only": None,
    }


def gallery(chat: Chat, model, eye, seed: int) -> str:
    """Pictures the model has never seen, with questions, its answers and the truth, as JSON for the report."""
    rng = random.Random(f"{seed} gallery")
    shown = [("held-out scene", s) for s in sample_scenes(GALLERY * 2 // 3, "held_out", seed + 99)]
    shown += [("held-out combination", s) for s in sample_scenes(GALLERY // 3, "held_out_combinations", seed + 99)]
    pictures = pixels([scene for _, scene in shown], eye.config.image_size, seed + 99)
    features = look(eye, pictures, chat.device)
    entries = []
    for (split, scene), picture, seen in zip(shown, pictures, features):
        asked = questions(scene, rng, 4)
        replies = chat.replies(model, [q.text for q in asked], seen.expand(len(asked), -1, -1))
        rows = zip(asked, replies, score_each(scene, asked, replies))
        entries.append(
            {
                "image": as_png(picture),
                "split": split,
                "scene": describe(scene),
                "questions": [
                    {"kind": q.kind, "question": q.text, "truth": q.answer, "answer": reply, "correct": right}
                    for q, reply, right in rows
                ],
            }
        )
    return json.dumps(entries)


def score_each(scene, asked, replies) -> list[bool]:
    return [score([(scene, q)], [reply])["exact_match"] == 1 for q, reply in zip(asked, replies)]


def as_png(picture: np.ndarray) -> str:
    """A uint8 picture [3, H, W] as base64 of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def train(job) -> dict:
    """Train in two stages; figures: exact match on held-out scenes and combinations, beside three blind controls."""
    if job.options.llm:
        return llava.train(job)
    settings = dict(job.settings)
    exam_scenes = settings.pop("exam_scenes")
    chat = Chat(load_tokenizer(job), job.use("step4_sft"), job.device)
    model = assemble(job, chat)
    history = two_stages(job, model, chat, settings)
    figures = examine(job, model, chat, exam_scenes)
    llm, eye = model.llm.config, model.vision.config
    job.save(
        tensors=model.state_dict(),
        config={"llm": vars(llm), "vision": vars(eye), "processor": picture_settings(eye.image_size)},
        figures=figures,
        history=history,
        files={"gallery.json": gallery(chat, model, model.vision, job.seed)},
    )
    return figures


def assemble(job, chat: Chat) -> torch.nn.Module:
    """Step 5's language model and the shipped eye, with a new projection between them."""
    vlm, llm = job.use("step6_vlm"), load_model(job, "step5_rlhf")
    eye = load_eye(vlm).to(job.device)
    width, text_width, patches = eye.config.hidden_size, llm.config.hidden_size, eye.config.num_patches
    return vlm.VLM(llm, width, text_width, patches, eye, chat.special["<|image|>"]).to(job.device)


def two_stages(job, model, chat: Chat, settings: dict) -> dict[str, list]:
    """Train the projection alone, then projection and language model; return the curves of both stages.

    What is left of `settings` without those of the batches and of the first stage is the second stage's TrainConfig.
    """
    trainer, side = job.use("step3_pretrain"), model.vision.config.image_size
    scenes = sample_scenes(settings.pop("scenes"), "train", job.seed)
    again = scenes[: len(scenes) // 2]
    with job.bar(len(scenes) + len(again), "look at pictures", unit="picture") as bar:
        features = look(model.vision, pixels(scenes, side, job.seed), job.device, bar)
        nameless = look(model.vision, pixels(again, side, job.seed + 1, nameless=True), job.device, bar)
    batch_size, turns = settings.pop("batch_size"), settings.pop("turns")
    batches = functools.partial(
        Batches, chat, scenes, features, nameless, job.use("step6_vlm"), batch_size=batch_size, turns=turns
    )
    with_pictures = batches(text_every=0, nameless_every=0, seed=job.seed)
    mixed = batches(
        text_every=settings.pop("text_every"), nameless_every=settings.pop("nameless_every"), seed=job.seed + 1
    )

    model.llm.requires_grad_(False)
    rate = settings.pop("projection_learning_rate")
    alone = trainer.TrainConfig(
        max_steps=settings.pop("projection_steps"),
        learning_rate=rate,
        min_lr=rate / 2,
        warmup_steps=settings["warmup_steps"],
        muon=settings.get("muon", False),
    )
    curve = fit(job, model, with_pictures, alone, stage="projection")

    model.llm.requires_grad_(True)
    both = trainer.TrainConfig(min_lr=settings["learning_rate"] / 50, weight_decay=0.01, **settings)
    # Batches of words alone have nothing for the projection.
    curve_2 = fit(job, model, mixed, both, stage="projection and language model", all_used=False)
    return {"loss, projection only": curve, "loss, projection and language model": curve_2}


def examine(job, model, chat: Chat, scenes: int) -> dict:
    """The figures of three exams: on pictures of `scenes` held-out scenes (with the blind controls), on pictures of as
    many held-out combinations, and on the same held-out scenes told in words."""
    on_scenes = exam_on_pictures(job, model, chat, "held_out", scenes, blind=True)
    on_combinations = exam_on_pictures(job, model, chat, "held_out_combinations", scenes)["sighted"]
    items = exam("held_out", scenes, QUESTIONS_PER_SCENE)
    in_words = score(items, chat.replies(model, [prompt(scene, q.text) for scene, q in items]))
    sighted = on_scenes.pop("sighted")
    return {
        "exact_match": sighted["exact_match"],
        "exact_match_held_out_combinations": on_combinations["exact_match"],
        **{name: result["exact_match"] for name, result in on_scenes.items()},
        "by_kind": {
            kind: {"sighted": value, **{name: result["by_kind"][kind] for name, result in on_scenes.items()}}
            for kind, value in sighted["by_kind"].items()
        },
        "by_kind_held_out_combinations": on_combinations["by_kind"],
        "names_evidence": sighted["names_evidence"],
        "text_exact_match_before": job.load("step5_rlhf").figures["exact_match"],
        "text_exact_match": in_words["exact_match"],
    }


def exam_on_pictures(job, model, chat: Chat, split: str, scenes: int, blind: bool = False) -> dict[str, dict]:
    """The scores for questions about pictures of a split, by what the model is shown: "sighted", and the controls."""
    items, side = exam(split, scenes, QUESTIONS_PER_SCENE), model.vision.config.image_size
    features = look(model.vision, pixels([scene for scene, _ in items], side, 4321), job.device)
    black = look(model.vision, np.zeros((1, 3, side, side), np.uint8), job.device)
    asked, scores = [question.text for _, question in items], {}
    for name, shown in {"sighted": features, **(controls(features, black) if blind else {})}.items():
        with job.bar(len(items), f"exam {name}", unit="question") as bar, job.autocast():
            scores[name] = score(items, chat.replies(model, asked, shown, each=bar.update))
    return scores


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
