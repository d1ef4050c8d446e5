"""`course ask`: a learner's own picture, answered by what a run has left."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from course import cli, steps
from course.machine import artifacts, setup
from course.world import sample_scenes
from course.world.pictures import draw, pixels
from step6_vlm import ask, train_clip

QUESTIONS = ["What colour is the star?", "Describe the picture."]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A folder as `run` leaves it, of random weights."""
    folder = tmp_path_factory.mktemp("artifacts")
    tokens, gpt, vlm = (steps.load(name, "solution") for name in ("step1_tokenizer", "step2_gpt", "step6_vlm"))
    tokenizer = tokens.train(["a red star at the top left, a blue ring at the center"], 290)
    artifacts.save_artifact(
        folder / "step1_tokenizer",
        {"step": "step1_tokenizer", "config": {}},
        files={"tokenizer.json": tokenizer.to_json()},
    )
    torch.manual_seed(1)
    llm = gpt.GPT(
        gpt.GPTConfig(
            vocab_size=290, hidden_size=32, intermediate_size=48, num_hidden_layers=2, tie_word_embeddings=False
        )
    )
    eye = train_clip.load_eye(vlm)
    model = vlm.VLM(llm, 128, 32, 16, eye)
    artifacts.save_artifact(
        folder / "step6_vlm",
        {"step": "step6_vlm", "config": {"llm": vars(llm.config), "vision": vars(eye.config)}},
        dict(model.state_dict()),
    )
    return folder


@pytest.fixture(scope="module")
def seer(out):
    return ask.Seer(out=out, device="cpu", code="solution")


def test_it_answers_as_the_exam_does(seer):
    """A picture from a file gets the answers that the same scene gets where features are cached."""
    scenes = sample_scenes(2, "held_out", 5)
    eye = train_clip.load_eye(steps.load("step6_vlm", "solution"))
    with torch.no_grad():
        features = eye(train_clip.normalize(pixels(scenes, seed=3)))
    for number, picture in enumerate(pixels(scenes, seed=3)):
        answers = seer.ask(Image.fromarray(picture.transpose(1, 2, 0)), QUESTIONS)
        assert answers == seer.chat.replies(seer.model, QUESTIONS, features[number].expand(2, -1, -1))
    ids = torch.tensor([seer.chat.ids([{"role": "user", "content": QUESTIONS[0]}], True)] * 2)
    with torch.no_grad():
        first, second = seer.model(ids, features)[0][:, -1]
    assert not torch.allclose(first, second)  # it has looked, though nobody taught it to say what it sees


def test_a_picture_of_any_shape_is_shown_whole():
    scene = draw(sample_scenes(1, "train", 1)[0])
    assert np.array_equal(ask.square(scene, 64), np.asarray(scene).transpose(2, 0, 1))
    wide = Image.new("RGB", (900, 300), (200, 0, 0))
    shown = ask.square(wide, 64)
    assert shown.shape == (3, 64, 64) and shown.flags.writeable
    assert (shown[:, 32, :] == [[200], [0], [0]]).all() and (shown[:, 2, :] == 238).all()
    assert ask.square(Image.new("RGB", (1, 5000)), 64).shape == (3, 64, 64)


def run(capsys, monkeypatch, *argv):
    monkeypatch.setattr(setup, "ensure", lambda *args: None)
    try:
        status = cli.main(["ask", *map(str, argv)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def test_on_the_command_line(out, seer, tmp_path, capsys, monkeypatch):
    picture = draw(sample_scenes(1, "held_out", 5)[0], 300)
    picture.putalpha(255)
    picture.save(tmp_path / "mine.png")
    options = ("--out", out, "--device", "cpu", "--code", "solution")
    status, said, _ = run(capsys, monkeypatch, tmp_path / "mine.png", *QUESTIONS, *options)
    answers = seer.ask(picture.convert("RGB"), QUESTIONS)
    assert status == 0 and said == "".join(f"{q}  {a}\n" for q, a in zip(QUESTIONS, answers))
    status, said, _ = run(capsys, monkeypatch, tmp_path / "mine.png", QUESTIONS[0], *options)
    assert status == 0 and said == answers[0] + "\n"


def test_what_cannot_be_answered_is_said_in_a_sentence(out, tmp_path, capsys, monkeypatch):
    (tmp_path / "cat.txt").write_text("meow")
    draw(sample_scenes(1, "train", 1)[0]).save(tmp_path / "mine.png")
    for argv, says in (
        ((tmp_path / "cat.txt", "Who?"), "cat.txt is no picture"),
        ((tmp_path / "none.png", "Who?"), "none.png does not exist"),
        ((tmp_path / "mine.png", "Who?", "--out", tmp_path), "python3 -m course run --preset tiny --out"),
        ((tmp_path / "mine.png",), "QUESTION"),
    ):
        status, said, complaint = run(capsys, monkeypatch, *argv)
        assert status and not said and says in complaint and "Traceback" not in complaint


def test_an_older_version_is_named_in_one_sentence(out, tmp_path):
    """Step 6's artifact has the eye in it since 0.2.0."""
    shutil.copytree(out, tmp_path / "old")
    good = artifacts.load_artifact(out / "step6_vlm", "")
    tensors = {name: value for name, value in good.tensors.items() if not name.startswith("vision.")}
    artifacts.save_artifact(tmp_path / "old" / "step6_vlm", good.manifest, tensors)
    with pytest.raises(artifacts.ArtifactError, match="an older version of the course. Make it anew: python3") as error:
        ask.Seer(out=tmp_path / "old", device="cpu", code="solution")
    assert len(str(error.value)) < 300


def test_weights_that_do_not_fit_the_code_are_named(out, tmp_path):
    good = artifacts.load_artifact(out / "step6_vlm", "")
    (tmp_path / "step1_tokenizer").symlink_to(out / "step1_tokenizer")
    tensors = {name: value for name, value in good.tensors.items() if "linear_1.bias" not in name}
    artifacts.save_artifact(tmp_path / "step6_vlm", {"step": "step6_vlm", "config": good.config}, tensors)
    with pytest.raises(artifacts.ArtifactError, match="linear_1.bias"):
        ask.Seer(out=tmp_path, device="cpu", code="solution")
