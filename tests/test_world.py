"""The world is fixed by hashes and seeds, asks answerable questions, and never shows what it holds out."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest

from course import world
from course.world import language, scenes
from course.world.exam import conversation, exam, score
from course.world.pictures import NAMELESS, PAPER, nameless_color


def many(split="train", count=400, seed=3):
    return world.sample_scenes(count, split, seed)


@pytest.mark.parametrize("split", world.SPLITS)
def test_scenes_belong_to_the_split_they_are_drawn_for(split):
    for scene in many(split):
        assert world.split_of(scene) == split
        assert 1 <= len(scene.shapes) <= 4
        places = [world.PLACES.index(s.place) for s in scene.shapes]
        assert places == sorted(set(places)), "reading order, no place twice"


def test_splits_are_disjoint_and_seeded():
    train, held_out = ({s.key for s in many(split, 2000)} for split in ("train", "held_out"))
    assert not train & held_out
    assert many(seed=5) == many(seed=5) != many(seed=6)
    with pytest.raises(ValueError, match="held_out_combinations"):
        world.sample_scene(random.Random(0), "test")


def test_held_out_pairs_are_fixed_and_each_half_is_seen_elsewhere():
    # Written out so that a change of the hash or of the lists cannot pass unnoticed: shipped weights depend on it.
    assert set(world.HELD_OUT_PAIRS) == {
        ("green", "square"),
        ("orange", "triangle"),
        ("pink", "cross"),
        ("blue", "ring"),
        ("red", "circle"),
        ("black", "star"),
    }
    for color in world.COLORS:
        assert sum(pair[0] == color for pair in world.TRAIN_PAIRS) >= 5
    for shape in world.SHAPES:
        assert sum(pair[1] == shape for pair in world.TRAIN_PAIRS) >= 7


@pytest.mark.parametrize("name", ["stories", "world"])
def test_no_training_text_names_a_held_out_pair(name):
    text = world.corpus(name, "train", 400_000)
    for color, shape in world.HELD_OUT_PAIRS:
        assert f"{color} {shape}" not in text
    rng = random.Random(0)
    for scene in many(count=1500):
        said = " ".join(m["content"] for m in conversation(scene, rng, 8, 0.5))
        assert not any(f"{c} {s}" in said for c, s in world.HELD_OUT_PAIRS)


def independent_answer(scene, question):
    """The answer worked out from the question's words, by other code than the one that asked it."""
    text, shapes = question.text, scene.shapes
    by_place = {s.place: s for s in shapes}

    def named(words):
        words = words.removeprefix("the ")
        found = [s for s in shapes if words in (s.shape, f"{s.color} {s.shape}", f"{s.shape} at the {s.place}")]
        assert len(found) == 1, f"{words!r} should name one shape of {scene.key}"
        return found[0]

    if match := re.fullmatch(r"What is at the (.+)\?", text):
        s = by_place.get(match[1])
        return f"{'an' if s.size[0] in 'aeiou' else 'a'} {s.size} {s.color} {s.shape}" if s else "nothing"
    if match := re.fullmatch(r"Where is (.+)\?", text):
        return "at the " + named(match[1]).place
    if match := re.fullmatch(r"What colour is (.+)\?", text):
        return named(match[1]).color
    if match := re.fullmatch(r"Which shape is at the (.+)\?", text):
        return "the " + by_place[match[1]].shape
    if match := re.fullmatch(r"Which shape is (.+)\?", text):
        (s,) = (s for s in shapes if s.color == match[1])
        return "the " + s.shape
    if match := re.fullmatch(r"How many (.+) are there\?", text):
        noun = match[1]
        plurals = {language._plural(shape): shape for shape in world.SHAPES}
        counted = [s for s in shapes if noun == "shapes" or plurals.get(noun) == s.shape or noun == f"{s.color} shapes"]
        return ["zero", "one", "two", "three", "four"][len(counted)]
    if match := re.fullmatch(r"Is there an? (\w+) (\w+)\?", text):
        return "yes" if any((s.color, s.shape) == match.groups() for s in shapes) else "no"
    if match := re.fullmatch(r"Is (.+) left of or right of (.+)\?", text):
        a, b = named(match[1]), named(match[2])
        assert a.column != b.column
        return "left" if a.column < b.column else "right"
    if match := re.fullmatch(r"Is (.+) above or below (.+)\?", text):
        a, b = named(match[1]), named(match[2])
        assert a.row != b.row
        return "above" if a.row < b.row else "below"
    assert text == "Describe the picture."
    return language.describe(scene)


@pytest.mark.parametrize("split", world.SPLITS)
def test_every_answer_is_right_and_every_question_has_one(split):
    rng, kinds = random.Random(1), set()
    for scene in many(split):
        for question in world.questions(scene, rng):
            kinds.add(question.kind)
            assert independent_answer(scene, question) == question.answer, question
    assert kinds == set(world.KINDS)


def fitting(scene, words):
    """The shapes that a name like "the small red circle" or "the circle at the top" fits."""
    what, _, place = words.lower().removeprefix("the ").partition(" at the ")
    return [s for s in scene.shapes if set(what.split()) <= {s.size, s.color, s.shape} and place in ("", s.place)]


def is_true(scene, sentence):
    if match := re.fullmatch(r"(?:I see|Once more:) (.+)\.", sentence):
        return match[1] == language.describe(scene)
    if match := re.fullmatch(r"At the (.+) there is an? (\w+ \w+ \w+)\.", sentence):
        return len(fitting(scene, f"{match[2]} at the {match[1]}")) == 1
    if match := re.fullmatch(r"The shape that is (.+) is the (\w+)\.", sentence):
        found = [s for s in scene.shapes if match[1] in (s.color, f"at the {s.place}")]
        return [s.shape for s in found] == [match[2]]
    if match := re.fullmatch(r"(The .+) is at the (.+)\.", sentence):
        return match[2] in [s.place for s in fitting(scene, match[1])]
    if match := re.fullmatch(r"(The .+) is (small|big) and (\w+)\.", sentence):
        (s,) = fitting(scene, match[1])
        return (s.size, s.color) == (match[2], match[3])
    if match := re.fullmatch(r"The number of (.+) is (\w+)\.", sentence):
        singular = {
            "shapes": "",
            "crosses": "cross",
            **{s + "s": s for s in world.SHAPES},
            **{c + " shapes": c for c in world.COLORS},
        }
        return ["zero", "one", "two", "three", "four"][len(fitting(scene, singular[match[1]]))] == match[2]
    if match := re.fullmatch(r"There is (not )?an? (\w+ \w+)\.", sentence):
        return bool(fitting(scene, match[2])) == (match[1] is None)
    match = re.fullmatch(r"(The .+) is (left of|right of|above|below) (the .+)\.", sentence)
    ((a,), (b,)) = fitting(scene, match[1]), fitting(scene, match[3])
    return {
        "left of": a.column < b.column,
        "right of": a.column > b.column,
        "above": a.row < b.row,
        "below": a.row > b.row,
    }[match[2]]


def test_stories_are_true_and_tell_the_whole_scene():
    rng = random.Random(4)
    for scene in many():
        told = re.findall(r"[^.]+\.", world.story(scene, rng))[1:-1]
        told = [sentence.strip() for sentence in told]
        assert told[0] == f"I see {language.describe(scene)}."
        for sentence in told:
            assert is_true(scene, sentence), (scene.key, sentence)


def test_guessing_without_looking_does_not_pay():
    """The commonest answer to each kind stays far enough from certain that seeing can be told from guessing."""
    answers = {}
    for _, question in exam("held_out", 3000, 4):
        answers.setdefault(question.kind, []).append(question.answer)
    for kind, given in answers.items():
        share = max(given.count(a) for a in set(given)) / len(given)
        assert share < 0.56, (kind, share)


def test_correct_and_preferred_are_two_things():
    rng = random.Random(2)
    for scene in many():
        for q in world.questions(scene, rng):
            assert world.is_correct(q, q.bare) and world.is_correct(q, q.preferred)
            wrong = f"nonsense, I see {q.evidence}." if q.evidence else "nonsense."
            assert not world.is_correct(q, wrong)
            if q.kind == "describe":
                assert q.preferred == q.bare and world.preference(scene, q.preferred, q.bare) == 0.5
                continue
            assert world.preference(scene, q.preferred, q.bare) == 1
            assert world.preference(scene, q.bare, wrong) == 0, "the evidence counts, not the answer"
            assert world.preference(scene, q.preferred, wrong) == 0.5


def test_false_or_empty_evidence_is_none():
    scene = scenes.Scene((scenes.Shape("blue", "star", "big", "top left"),))
    assert world.names_evidence(scene, "blue, I see a blue star at the top left.")
    assert not world.names_evidence(scene, "blue, I see a blue star at the top.")
    assert not world.names_evidence(scene, "blue, I see a blue star at the top left and a red ring at the top.")
    assert not world.names_evidence(scene, "blue, I see it.")
    assert not world.names_evidence(scene, "a blue star at the top left")


def test_scoring_counts_by_kind():
    items = exam("held_out", 30, 3)
    marks = score(items, [q.bare for _, q in items])
    assert marks["exact_match"] == 1 and set(marks["by_kind"].values()) == {1.0} and marks["names_evidence"] == 0
    assert score(items, ["no idea"] * len(items))["exact_match"] == 0


@pytest.mark.parametrize("size", [32, 64, 224])
def test_pictures_show_the_colour_at_the_place(size):
    for scene in many(count=60):
        still = np.asarray(world.draw(scene, size))
        assert still.shape == (size, size, 3) and (np.asarray(world.draw(scene, size)) == still).all()
        cell = size / 3
        for shape in scene.shapes:
            if shape.shape == "ring":
                continue  # its middle is paper
            y, x = (int((k + 0.5) * cell) for k in (shape.row, shape.column))
            assert np.abs(still[y, x].astype(int) - scenes.COLORS[shape.color]).max() <= 3, shape
        empty = [p for p in range(9) if all(world.PLACES[p] != s.place for s in scene.shapes)]
        y, x = (int((k + 0.5) * cell) for k in divmod(empty[0], 3))
        assert (still[y, x] >= 225).all()


def test_drawings_of_one_scene_differ_and_seeds_repeat():
    scene = many(count=1)[0]
    first, second = (world.pixels([scene, scene], seed=s) for s in (0, 0))
    assert first.shape == (2, 3, 64, 64) and first.dtype == np.uint8
    assert (first == second).all() and (first[0] != first[1]).any()
    with pytest.raises(ValueError, match="16 pixels"):
        world.draw(scene, 8)


def test_every_attribute_changes_the_picture():
    base = scenes.Shape("green", "circle", "small", "center")
    still = {np.asarray(world.draw(scenes.Scene((base,)))).tobytes()}
    values = {"color": world.COLORS, "shape": world.SHAPES, "size": world.SIZES, "place": world.PLACES}
    for attribute, options in values.items():
        for value in options:
            changed = scenes.Shape(**{**base.__dict__, attribute: value})
            still.add(np.asarray(world.draw(scenes.Scene((changed,)))).tobytes())
    assert len(still) == 1 + sum(len(options) - 1 for options in values.values())


def test_text_of_ones_own(tmp_path):
    (tmp_path / "b.md").write_text("second", encoding="utf-8")
    (tmp_path / "a.txt").write_text("first " * 100, encoding="utf-8")
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe")
    train, held_out = (world.corpus(str(tmp_path), split) for split in ("train", "held_out"))
    assert train.startswith("first") and held_out.endswith("second") and len(train) > 8 * len(held_out)
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        world.corpus(str(tmp_path / "a.txt"))
    with pytest.raises(FileNotFoundError, match="pydoc"):
        world.corpus(str(tmp_path / "nothing.txt"))
    with pytest.raises(ValueError, match="held_out"):
        world.corpus("stories", "test")


def test_python_carries_text_to_read():
    text = world.corpus("pydoc", "train", 10_000_000)
    assert len(text) > 300_000 and "statement" in text


def test_nameless_colours_are_far_from_all_that_have_a_name():
    rng = random.Random(0)
    named = np.array(list(world.COLORS.values()))
    drawn = np.array([nameless_color(rng) for _ in range(500)])
    assert np.abs(drawn[:, None] - named).sum(-1).min() >= NAMELESS
    assert drawn.sum(1).max() < 3 * PAPER[0] - 100 and len(set(map(tuple, drawn))) > 400
    nearest = np.abs(drawn[:, None] - named).sum(-1).argmin(1)
    assert np.bincount(nearest, minlength=len(named)).min() > 10  # on all sides of each: none lies outside
    scene = world.sample_scene(rng)
    plain, other = (world.pixels([scene], seed=1, nameless=nameless)[0] for nameless in (False, True))
    assert not np.array_equal(plain, other)
    still = [np.asarray(world.draw(scene, 64, nameless=True)) for _ in range(2)]  # without a generator, too
    assert np.array_equal(*still) and not np.array_equal(still[0], np.asarray(world.draw(scene, 64)))


def test_questions_without_colours_are_answered_with_blanks_for_them():
    """Of a scene that differs in its colours alone, the same answer is right."""
    rng = random.Random(0)
    asked = 0
    for scene in world.sample_scenes(300, "train", 5):
        recolored = world.Scene(tuple(replace(shape, color="red") for shape in scene.shapes))
        there = [f"a {world.BLANK} {s.shape} at the {s.place}" for s in scene.shapes]
        for question in world.colorless(world.questions(scene, rng, 12)):
            words = set(re.findall(r"[a-z]+", f"{question.text} {question.answer} {question.evidence}"))
            assert not words & set(world.COLORS) and "an" not in words and question.kind != "exists"
            if question.evidence:
                assert all(part in there for part in re.split(", | and ", question.evidence))
            if question.kind == "describe":
                assert question.answer == world.describe(recolored).replace("red", world.BLANK)
            asked += 1
    assert asked > 1500
