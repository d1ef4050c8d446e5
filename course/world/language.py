"""What can be said about a scene: descriptions, stories, questions, and answers that are right, wrong or preferred.

An answer has a head ("red") and, if it is a good one, evidence ("red, I see a red circle at the top."). Whether an
answer is *correct* depends on the head alone; which of two answers is *preferred* depends on the evidence alone.
So step 5 can teach a preference without teaching any facts, and both can be counted exactly.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from course.world.scenes import COLORS, HELD_OUT_PAIRS, PLACES, SHAPES, TRAIN_PAIRS, Scene, Shape, split_of

KINDS = ("what", "where", "color", "shape", "count", "exists", "relation", "describe")
NUMBERS = ("zero", "one", "two", "three", "four")
EVIDENCE = ", I see "


@dataclass(frozen=True)
class Question:
    """A question about one scene. `answer` is the head that counts as correct, `evidence` what a preferred answer
    adds."""

    kind: str
    text: str
    answer: str
    evidence: str = ""

    @property
    def bare(self) -> str:
        return self.answer + "."

    @property
    def preferred(self) -> str:
        return f"{self.answer}{EVIDENCE}{self.evidence}." if self.evidence else self.bare


def phrase(shape: Shape, size: bool = True, place: bool = True) -> str:
    """A noun phrase: "a small red circle at the top left"; `size` and `place` can be left out."""
    noun = f"{shape.size} {shape.color} {shape.shape}" if size else f"{shape.color} {shape.shape}"
    article = "an" if noun[0] in "aeiou" else "a"
    return f"{article} {noun} at the {shape.place}" if place else f"{article} {noun}"


def listing(parts: Sequence[str]) -> str:
    """Join noun phrases as English does: "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def describe(scene: Scene) -> str:
    """The canonical description: every shape in reading order, its place first, without a full stop."""
    return listing([f"at the {s.place} {phrase(s, place=False)}" for s in scene.shapes])


def caption(scene: Scene) -> str:
    """The same as a caption, what first and then where; the eye was trained on these."""
    return listing([phrase(s) for s in scene.shapes])


def _evidence(shapes: Sequence[Shape]) -> str:
    return listing([phrase(s, size=False) for s in shapes])


def _unique(scene: Scene, attribute: str) -> list[Shape]:
    """The shapes that no other shape of the scene equals in `attribute`."""
    values = [getattr(s, attribute) for s in scene.shapes]
    return [s for s in scene.shapes if values.count(getattr(s, attribute)) == 1]


def _name(scene: Scene, shape: Shape) -> str:
    """The shortest way to name a shape that fits no other one: "the circle", "the red circle", or by its place."""
    if shape in _unique(scene, "shape"):
        return f"the {shape.shape}"
    if [(s.color, s.shape) for s in scene.shapes].count((shape.color, shape.shape)) == 1:
        return f"the {shape.color} {shape.shape}"
    return f"the {shape.shape} at the {shape.place}"


def _by_shape(scene: Scene, shape: Shape) -> str:
    """A name that does not give the colour away: "the circle", or "the circle at the top"."""
    return f"the {shape.shape}" if shape in _unique(scene, "shape") else f"the {shape.shape} at the {shape.place}"


# One function per kind: Question, or None where the scene does not allow this kind.


def _what(scene: Scene, rng: random.Random) -> Question:
    free = [p for p in PLACES if all(s.place != p for s in scene.shapes)]
    if rng.random() < 0.15:
        return Question("what", f"What is at the {rng.choice(free)}?", "nothing", _evidence(scene.shapes))
    shape = rng.choice(scene.shapes)
    return Question("what", f"What is at the {shape.place}?", phrase(shape, place=False), _evidence([shape]))


def _where(scene: Scene, rng: random.Random) -> Question | None:
    shape = rng.choice(scene.shapes)
    name = _name(scene, shape)
    if " at the " in name:  # the place would be given away
        return None
    return Question("where", f"Where is {name}?", f"at the {shape.place}", _evidence([shape]))


def _color(scene: Scene, rng: random.Random) -> Question:
    shape = rng.choice(scene.shapes)
    return Question("color", f"What colour is {_by_shape(scene, shape)}?", shape.color, _evidence([shape]))


def _shape(scene: Scene, rng: random.Random) -> Question:
    shape = rng.choice(scene.shapes)
    if shape in _unique(scene, "color") and rng.random() < 0.5:
        text = f"Which shape is {shape.color}?"
    else:
        text = f"Which shape is at the {shape.place}?"
    return Question("shape", text, f"the {shape.shape}", _evidence([shape]))


def _count(scene: Scene, rng: random.Random) -> Question:
    which = rng.randrange(3)
    if which == 0:
        counted, noun = list(scene.shapes), "shapes"
    elif which == 1:
        shape = rng.choice([s.shape for s in scene.shapes] + [rng.choice(SHAPES)])
        counted, noun = [s for s in scene.shapes if s.shape == shape], _plural(shape)
    else:
        color = rng.choice([s.color for s in scene.shapes] + [rng.choice(list(COLORS))])
        counted, noun = [s for s in scene.shapes if s.color == color], f"{color} shapes"
    return Question("count", f"How many {noun} are there?", NUMBERS[len(counted)], _evidence(counted or scene.shapes))


def _exists(scene: Scene, rng: random.Random) -> Question:
    """Yes and no are equally likely, and half of the "no" pairs share a colour or a shape with something present."""
    present = {(s.color, s.shape) for s in scene.shapes}
    if rng.random() < 0.5:
        color, shape = rng.choice(sorted(present))
        seen = [s for s in scene.shapes if (s.color, s.shape) == (color, shape)]
        answer = "yes"
    else:
        pairs = TRAIN_PAIRS if split_of(scene) != "held_out_combinations" else TRAIN_PAIRS + HELD_OUT_PAIRS
        absent = [p for p in pairs if p not in present]
        near = [(c, s) for c, s in absent if any(c == pc or s == ps for pc, ps in present)]
        color, shape = rng.choice(near if rng.random() < 0.5 else absent)
        seen, answer = list(scene.shapes), "no"
    article = "an" if color[0] in "aeiou" else "a"
    return Question("exists", f"Is there {article} {color} {shape}?", answer, _evidence(seen))


def _relation(scene: Scene, rng: random.Random) -> Question | None:
    named = [s for s in scene.shapes if " at the " not in _name(scene, s)]
    pairs = [(a, b) for a in named for b in named if a != b]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    relations = []
    if a.column != b.column:
        relations.append(("left of or right of", "left" if a.column < b.column else "right"))
    if a.row != b.row:
        relations.append(("above or below", "above" if a.row < b.row else "below"))
    choice, answer = rng.choice(relations)
    return Question("relation", f"Is {_name(scene, a)} {choice} {_name(scene, b)}?", answer, _evidence([a, b]))


def _describe(scene: Scene, rng: random.Random) -> Question:
    return Question("describe", "Describe the picture.", describe(scene))


ASK: dict[str, Callable[[Scene, random.Random], Question | None]] = dict(
    zip(KINDS, (_what, _where, _color, _shape, _count, _exists, _relation, _describe))
)


def _plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def questions(
    scene: Scene, rng: random.Random, count: int | None = None, kinds: Sequence[str] = KINDS
) -> list[Question]:
    """`count` different questions about a scene, kinds drawn without replacement as long as they last.

    Without `count`, one question of every kind that the scene allows. A scene with one shape allows no "relation".
    """
    asked: dict[str, Question] = {}
    wanted = len(kinds) if count is None else count
    for _ in range(2 if count is None else 20):  # a second round finds what chance refused in the first
        for kind in rng.sample(list(kinds), len(kinds)):
            if len(asked) == wanted or (count is None and any(q.kind == kind for q in asked.values())):
                continue
            question = ASK[kind](scene, rng)
            if question is not None:
                asked.setdefault(question.text, question)
    return list(asked.values())


_COLORS = "|".join(COLORS)
BLANK = "___"


def colorless(asked: Sequence[Question]) -> list[Question]:
    """Those of the questions that name no colour; in their answers each colour is a BLANK."""

    def blank(text: str) -> str:
        return re.sub(rf"\b({_COLORS})\b", BLANK, re.sub(rf"\ban ({_COLORS})\b", f"a {BLANK}", text))

    return [
        replace(q, answer=blank(q.answer), evidence=blank(q.evidence))
        for q in asked
        if not re.search(rf"\b({_COLORS})\b", q.text)
    ]


def head(reply: str) -> str:
    """The part of a reply that says the answer: without evidence and without the full stop."""
    return reply.split(EVIDENCE)[0].strip().rstrip(".").strip()


def is_correct(question: Question, reply: str) -> bool:
    """Exact match of the reply's head with the answer. Evidence, true or false, changes nothing."""
    return head(reply) == question.answer


_PHRASE = re.compile(
    rf"\ban? ({_COLORS}) ({'|'.join(SHAPES)}) at the ((?:top|bottom|center|left|right)(?: left| right)?)"
)


def names_evidence(scene: Scene, reply: str) -> bool:
    """Whether a reply points at something in the scene, and at nothing that is not there."""
    if EVIDENCE not in reply:
        return False
    named = _PHRASE.findall(reply.split(EVIDENCE, 1)[1])
    there = {(s.color, s.shape, s.place) for s in scene.shapes}
    return bool(named) and all(shape in there for shape in named)


def preference(scene: Scene, reply: str, other: str) -> float:
    """1 if `reply` is preferred to `other`, 0 if the other way round, 0.5 for a tie. Correctness plays no part."""
    return 0.5 + 0.5 * (names_evidence(scene, reply) - names_evidence(scene, other))


# Stories: what the model reads before anybody asks it anything.

_OPENINGS = (
    "Look at this picture.",
    "Somebody painted a picture today.",
    "Here is a new picture on the wall.",
    "The page is almost empty.",
    "Let us look at the next picture.",
)
_ENDINGS = ("That is all.", "Nothing else is there.", "That is the whole picture.", "The rest is empty.")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _look(scene: Scene, shape: Shape, rng: random.Random) -> str:
    """One sentence about one shape: what is at its place, where it is, or what it looks like."""
    name = _name(scene, shape)
    if " at the " in name:  # the place would be given away
        name = f"the {shape.size} {shape.color} {shape.shape}"
    return _sentence(
        rng.choice(
            (
                f"at the {shape.place} there is {phrase(shape, place=False)}",
                f"{name} is at the {shape.place}",
                f"{_by_shape(scene, shape)} is {shape.size} and {shape.color}",
            )
        )
    )


def _thought(scene: Scene, rng: random.Random) -> str:
    """One sentence that follows from the whole scene, of the same kinds as the questions; "" where there is none."""
    kind = rng.choice(("shape", "count", "exists", "relation", "relation"))
    question = ASK[kind](scene, rng)
    if question is None:
        return ""
    text, answer = question.text.rstrip("?"), question.answer
    if kind == "shape":
        return f"The shape that is {text.removeprefix('Which shape is ')} is {answer}."
    if kind == "count":
        return f"The number of {text.removeprefix('How many ').removesuffix(' are there')} is {answer}."
    if kind == "exists":
        thing = text.removeprefix("Is there ")
        return f"There is {thing}." if answer == "yes" else f"There is not {thing}."
    choice = "left of or right of" if "left of or" in text else "above or below"
    a, b = text.removeprefix("Is ").split(f" {choice} ")
    return _sentence(f"{a} is {answer + ' of' if answer in ('left', 'right') else answer} {b}")


def story(scene: Scene, rng: random.Random) -> str:
    """A short text about one scene: what is in it, a look at each shape, a few thoughts; half of the time all again.

    From the third sentence on, much can be guessed by looking it up in what was said before, by a shape's place or by
    its name. So a model that has to guess learns to look things up, as it will have to when it answers questions.
    """
    told = describe(scene)
    thoughts = [_thought(scene, rng) for _ in range(rng.randint(2, 5))]
    sentences = [*filter(None, dict.fromkeys(thoughts)), *(_look(scene, shape, rng) for shape in scene.shapes)]
    rng.shuffle(sentences)
    again = [f"Once more: {told}."] if rng.random() < 0.5 else []
    return " ".join([rng.choice(_OPENINGS), f"I see {told}.", *sentences, *again, rng.choice(_ENDINGS)])


def quiz(scene: Scene, rng: random.Random) -> str:
    """Questions and answers about one scene, line by line (the tokenizer reads them, the pretrained model does not)."""
    lines = [f"Scene: {describe(scene)}."]
    for question in questions(scene, rng, 3):
        lines.append(f"{question.text} {rng.choice((question.bare, question.preferred))}")
    return "\n".join(lines)
