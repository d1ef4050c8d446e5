"""Questions about scenes as conversations and exams, and replies scored exactly. No torch."""

import random
from collections.abc import Sequence

from course.world.language import KINDS, Question, colorless, describe, is_correct, names_evidence, questions
from course.world.scenes import Scene, sample_scenes

Item = tuple[Scene, Question]


def prompt(scene: Scene | None, text: str) -> str:
    """What a user says: a scene told in words and a question about it; without a scene, the question alone."""
    return text if scene is None else f"Scene: {describe(scene)}. {text}"


def conversation(
    scene: Scene, rng: random.Random, turns: int, evidence: float, told: bool = True, nameless: bool = False
) -> list[dict]:
    """Several questions about one scene and their right answers, as messages.

    `evidence` is the share of answers that name their evidence; `told` puts the scene into words in the first
    question (otherwise a picture has to show it); `nameless` leaves colours blank, which then have no name.
    """
    # A description is as long as all other answers together, and it can be copied, where others must be looked up: one
    # row in four has it. The kinds that a model learns last are asked twice.
    kinds = [kind for kind in KINDS if kind != "describe" or rng.random() < 0.25] + ["where", "color", "relation"]
    asked = (
        colorless(questions(scene, rng, 3 * turns, kinds))[:turns] if nameless else questions(scene, rng, turns, kinds)
    )
    messages = []
    for turn, question in enumerate(asked):
        answer = question.preferred if rng.random() < evidence else question.bare
        messages.append({"role": "user", "content": prompt(scene if told and turn == 0 else None, question.text)})
        messages.append({"role": "assistant", "content": answer})
    return messages


def exam(split: str, scenes: int, per_scene: int, seed: int = 1234) -> list[Item]:
    """Questions about `scenes` scenes of a split, of different kinds; the same seed asks the same questions."""
    rng = random.Random(f"{seed} {split} exam")
    return [(s, q) for s in sample_scenes(scenes, split, seed) for q in questions(s, rng, per_scene)]


def score(items: Sequence[Item], replies: Sequence[str]) -> dict:
    """Exact match over all items and by kind, and the share of replies that name true evidence."""
    right: dict[str, list[bool]] = {}
    for (_, question), reply in zip(items, replies):
        right.setdefault(question.kind, []).append(is_correct(question, reply))
    return {
        "exact_match": sum(map(sum, right.values())) / len(items),
        "by_kind": {kind: sum(marks) / len(marks) for kind, marks in sorted(right.items())},
        "names_evidence": sum(names_evidence(scene, reply) for (scene, _), reply in zip(items, replies)) / len(items),
    }
