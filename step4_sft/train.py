"""Supervised fine-tuning: the GPT that tells stories learns to answer questions about a scene.

    python3 -m step4_sft.train --preset tiny

A row is one conversation: a scene in words, then several questions and their answers. Most answers are bare ("red."),
some name their evidence, so that step 5 has something to prefer. Needs the artifacts of steps 1 to 3.
"""

import functools
import random

from course.training.arguments import training_arguments
from course.training.chat import Chat
from course.training.fit import fit, load_model, load_tokenizer
from course.world import sample_scenes
from course.world.exam import conversation, exam, prompt, score

PRESETS = {
    "smoke": dict(batch_size=4, turns=3, max_steps=6, learning_rate=2e-3, warmup_steps=2, exam_scenes=4),
    "tiny": dict(
        batch_size=4, turns=10, max_steps=7000, learning_rate=3.5e-3, warmup_steps=50, exam_scenes=200, muon=True
    ),
    "small": dict(
        batch_size=32, turns=8, max_steps=700, learning_rate=2e-3, warmup_steps=50, exam_scenes=300, muon=True
    ),
    "base": dict(batch_size=64, turns=8, max_steps=3000, learning_rate=1e-4, warmup_steps=100, exam_scenes=1000),
}
EVIDENCE = 0.4  # share of the answers that name their evidence: under a half, so that step 5 has something to teach
BUCKET = 32  # batches whose rows are sorted by length together: rows of one length need little padding
QUESTIONS_PER_SCENE = 3  # in the exam

add_arguments = training_arguments


def batches(chat: Chat, batch_size: int, turns: int, evidence: float, seed: int):
    """A function from i to micro-batch i: conversations about fresh training scenes, of about the same length."""

    @functools.lru_cache(maxsize=2)
    def bucket(number: int) -> list:
        rng = random.Random(f"{seed} sft {number}")
        scenes = sample_scenes(batch_size * BUCKET, "train", rng.randrange(2**60))
        talks = [conversation(scene, rng, turns, evidence) for scene in scenes]
        talks.sort(key=lambda talk: sum(len(message["content"]) for message in talk))
        parts = [talks[i : i + batch_size] for i in range(0, len(talks), batch_size)]
        rng.shuffle(parts)
        return parts

    return lambda i: chat.batch(bucket(i // BUCKET)[i % BUCKET])


def examine(job, chat: Chat, model, split: str, scenes: int, label: str) -> dict:
    """The model's score on questions about scenes of a split, which are told to it in words."""
    items = exam(split, scenes, QUESTIONS_PER_SCENE)
    with job.bar(len(items), label, unit="question") as bar, job.autocast():
        return score(items, chat.replies(model, [prompt(s, q.text) for s, q in items], each=bar.update))


def train(job) -> dict:
    """Fine-tune; figures: exact match on held-out scenes before and after, by kind of question."""
    settings = dict(job.settings)
    trainer = job.use("step3_pretrain")
    chat = Chat(load_tokenizer(job), job.use("step4_sft"), job.device)
    model = load_model(job, "step3_pretrain")
    batch_size, turns, scenes = (settings.pop(key) for key in ("batch_size", "turns", "exam_scenes"))
    config = trainer.TrainConfig(min_lr=settings["learning_rate"] / 50, weight_decay=0.01, **settings)

    before = examine(job, chat, model, "held_out", max(1, scenes // 4), "exam before")
    curve = fit(job, model, batches(chat, batch_size, turns, EVIDENCE, job.seed), config)
    after = examine(job, chat, model, "held_out", scenes, "exam")
    combinations = examine(job, chat, model, "held_out_combinations", scenes, "exam, new combinations")
    figures = {
        "exact_match_before": before["exact_match"],
        "exact_match": after["exact_match"],
        "exact_match_held_out_combinations": combinations["exact_match"],
        "by_kind": after["by_kind"],
        "names_evidence": after["names_evidence"],
    }
    job.save(tensors=model.state_dict(), config=model.config.__dict__, figures=figures, history={"loss": curve})
    return figures


if __name__ == "__main__":
    from course.training.script import main

    main(__file__)
