"""What `export` writes, read by stock transformers: the same logits, ids and answers; what it cannot carry, it
names."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from course import cli, steps
from course.machine import artifacts, setup
from course.machine.files import FileError
from course.training.chat import Chat
from course.training.fit import load_model, load_tokenizer
from course.training.job import Job
from course.weights import WeightsError, export
from course.world import pixels, sample_scenes
from step6_vlm.train_clip import load_eye, normalize, picture_settings
from tests.checkpoints import shaken

transformers = pytest.importorskip("transformers")
QUESTIONS = [
    "what color is the circle?",
    "how many shapes are there?",
    "Where is Öl, 北京 or 🙂?  two  spaces ",
    "",
    " x",
]
TALK = [
    {"role": "user", "content": QUESTIONS[2]},
    {"role": "assistant", "content": "at the top.\nReally."},
    {"role": "user", "content": "  sure?"},
    {"role": "assistant", "content": "yes."},
]


def job_for(step, out):
    train = steps.load(step, "train")
    return Job(step, "smoke", train.PRESETS["smoke"], "cpu", out=out, code="solution")


def leave_artifacts(out):
    """What the steps leave at preset smoke: the tokenizer as it is trained, models with random weights."""
    steps.load("step1_tokenizer", "train").train(job_for("step1_tokenizer", out))
    gpt = steps.load("step2_gpt", "solution")
    config = gpt.GPTConfig(384, 32, 88, 2, 2, 1, 256, rope_theta=500.0)
    for step in ("step3_pretrain", "step4_sft", "step5_rlhf"):
        job = job_for(step, out)
        job.use()
        torch.manual_seed(len(step))
        untied = config.__dict__ | {"tie_word_embeddings": step != "step4_sft"}
        model = shaken(gpt.GPT(gpt.GPTConfig(**untied)))
        job.save(tensors=model.state_dict(), config=untied, figures={"exact_match": 0.5})
    save_vlm(out)


def save_vlm(out, projection=None):
    job = job_for("step6_vlm", out)
    vlm, llm = job.use(), load_model(job, "step5_rlhf")
    torch.manual_seed(4)
    projection = shaken(projection or vlm.Projection(128, llm.config.hidden_size))
    eye = load_eye(vlm)
    tensors = {
        **{f"vision.{k}": v for k, v in eye.state_dict().items()},
        **{f"projection.{k}": v for k, v in projection.state_dict().items()},
        **{f"llm.{k}": v for k, v in llm.state_dict().items()},
    }
    job.save(
        tensors=tensors,
        figures={"exact_match": 0.5},
        config={
            "llm": llm.config.__dict__,
            "vision": eye.config.__dict__,
            "processor": picture_settings(eye.config.image_size),
        },
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke") / "artifacts"
    leave_artifacts(folder)
    return folder


def exported(out, step, to):
    export.export(Job(step, "smoke", device="cpu", out=out), to)
    return to


def chat_of(out):
    job = job_for("step4_sft", out)
    return Chat(load_tokenizer(job), job.use("step4_sft"))


def check_llama(out, step, folder):
    """Logits, ids and greedy answers of an exported language model beside the course's own."""
    theirs, info = transformers.LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    tokenizer, chat = transformers.AutoTokenizer.from_pretrained(folder), chat_of(out)
    ours = load_model(job_for(step, out), step).eval()
    ids = torch.randint(ours.config.vocab_size, (2, 50))
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, ours(ids)[0], atol=1e-4)
    assert tokenizer.apply_chat_template(TALK, return_dict=False) == chat.ids(TALK)
    for question in QUESTIONS:
        asked = [{"role": "user", "content": question}]
        assert tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False) == chat.ids(
            asked, True
        )
    for text in ("a red circle", " a  b\n\n", "Öl 北京 🙂"):
        assert tokenizer(text)["input_ids"] == chat.tokenizer.encode_ordinary(text)
        assert tokenizer.decode(chat.tokenizer.encode_ordinary(text)) == text
    talks = [[{"role": "user", "content": question}] for question in QUESTIONS]
    batch = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    answers = theirs.generate(**batch, max_new_tokens=12)[:, batch["input_ids"].shape[1] :]
    assert [text.removeprefix(" ") for text in tokenizer.batch_decode(answers, skip_special_tokens=True)] == [
        text.replace("<|pad|>", "") for text in chat.replies(ours, QUESTIONS, max_new_tokens=12)
    ]
    assert theirs.generation_config.eos_token_id == chat.end and theirs.generation_config.pad_token_id == chat.pad


def check_llava(out, folder, scenes=3):
    """Processor, logits and greedy answers of an exported VLM beside the course's own."""
    theirs, info = transformers.LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor, chat = transformers.AutoProcessor.from_pretrained(folder), chat_of(out)
    job = job_for("step6_vlm", out)
    vlm, artifact = job.use(), job.load("step6_vlm")
    eye, llm = load_eye(vlm), load_model(job, "step5_rlhf")
    ours = vlm.VLM(llm, eye.config.hidden_size, llm.config.hidden_size, eye.config.num_patches, eye).eval()
    ours.projection.load_state_dict(export.part(artifact.tensors, "projection."))
    ours.llm.load_state_dict(export.part(artifact.tensors, "llm."))
    shown = pixels(sample_scenes(scenes, "held_out", 3), 64, 3)
    pictures = [Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))) for picture in shown]
    questions = QUESTIONS[:scenes]
    talks = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}] for text in questions]
    text = [processor.apply_chat_template(talk, add_generation_prompt=True) for talk in talks]
    batch = processor(images=pictures, text=text, padding=True, return_tensors="pt")
    torch.testing.assert_close(batch["pixel_values"], normalize(shown), atol=1e-5, rtol=0)
    longest = max(len(chat.ids([{"role": "user", "content": q}], True)) for q in questions)
    image = theirs.config.image_token_id
    for row, question in zip(batch["input_ids"].tolist(), questions):
        words = chat.ids([{"role": "user", "content": question}], True)
        assert row == [chat.pad] * (longest - len(words)) + [image] * 16 + words
    one = processor(images=pictures[0], text=text[0], return_tensors="pt")
    words = torch.tensor([chat.ids([{"role": "user", "content": questions[0]}], True)])
    features = ours.see(normalize(shown))
    with torch.no_grad():
        assert torch.allclose(theirs(**one).logits, ours(words, features[:1])[0], atol=1e-4)
    answers = theirs.generate(**batch, max_new_tokens=12)[:, batch["input_ids"].shape[1] :]
    assert [text.removeprefix(" ") for text in processor.batch_decode(answers, skip_special_tokens=True)] == [
        text.replace("<|pad|>", "") for text in chat.replies(ours, questions, features, max_new_tokens=12)
    ]
    return processor


@pytest.mark.parametrize("step", ["step3_pretrain", "step4_sft", "step5_rlhf"])
def test_a_language_model_is_a_llama(out, tmp_path, step):
    check_llama(out, step, exported(out, step, tmp_path / "exported"))


def test_the_vlm_is_a_llava(out, tmp_path):
    processor = check_llava(out, exported(out, "step6_vlm", tmp_path / "exported"))
    with pytest.raises(Exception, match="one picture"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}])
    with pytest.raises(Exception, match="unknown role system"):
        processor.apply_chat_template([{"role": "system", "content": "be brief"}])


@pytest.mark.slow
def test_what_a_run_leaves_is_exported_as_it_is(tmp_path):
    """The whole way, by the commands that a user types."""
    for words in (
        ["run", "--preset", "smoke", "--code", "solution"],
        *(["export", step, "--preset", "smoke", "--to", str(tmp_path / step)] for step in export.STEPS),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "course", *words, "--out", str(tmp_path / "artifacts")],
            cwd=steps.ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
    for step in export.STEPS[:3]:
        check_llama(tmp_path / "artifacts", step, tmp_path / step)
    check_llava(tmp_path / "artifacts", tmp_path / "step6_vlm")


def test_files_are_those_that_readers_of_each_age_look_for(out, tmp_path):
    folder = exported(out, "step6_vlm", tmp_path / "exported")
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    assert text["rope_theta"] == text["rope_parameters"]["rope_theta"] == 500.0
    assert config["image_token_index"] < text["vocab_size"] and config["image_seq_length"] == 16
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
        assert file.metadata() == {"format": "pt"}
    assert "vision_tower.vision_model.pre_layrnorm.weight" in names and "language_model.model.norm.weight" in names
    assert "language_model.lm_head.weight" not in names and text["tie_word_embeddings"]
    assert json.loads((folder / "processor_config.json").read_text())["num_additional_image_tokens"] == 1
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 1, "everybody who may read one file may read all"


# Where it may be written.


def test_nothing_of_anybody_elses_is_replaced(out, tmp_path, monkeypatch):
    folder = exported(out, "step4_sft", tmp_path / "a" / "new")
    exported(out, "step5_rlhf", folder)  # an export takes another's place, whole
    assert json.loads((folder / "course_export.json").read_text())["step"] == "step5_rlhf"
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WeightsError, match=r"holds what no export has written \(notes\.txt\)"):
        exported(out, "step5_rlhf", folder)
    (folder / "notes.txt").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(
        artifacts, "save_file", lambda *args, **more: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(FileError, match="no space left"):
        exported(out, "step4_sft", folder)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["new"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="config.json"):
        exported(out, "step4_sft", tmp_path / "theirs")
    with pytest.raises(WeightsError, match="no folder"):
        exported(out, "step4_sft", tmp_path / "file")
    assert exported(out, "step4_sft", tmp_path / "empty")


def test_the_command(out, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup, "ensure", lambda *args: None)
    assert cli.main(["export", "step5", "--to", str(tmp_path / "x"), "--preset", "smoke", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "LlamaForCausalLM.from_pretrained" in said
    code = "\n".join(line.strip() for line in said.splitlines()[1:])
    exec(code, names := {})
    assert names["model"].config.vocab_size == 384 and names["tokenizer"].eos_token == "<|end|>"
    assert cli.main(["export", "step1", "--to", str(tmp_path / "y"), "--out", str(out)]) == 1
    assert "leaves no language model. There is: step3_pretrain" in capsys.readouterr().err
    assert cli.main(["export", "step5", "--to", str(tmp_path / "y"), "--out", str(tmp_path / "none")]) == 1
    assert "python3 -m course run --steps step5" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "y")


# Projections.


class Made(nn.Module):
    """A projection of the given layers, called one after the other."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Backwards(nn.Module):
    """The second layer was defined first."""

    def __init__(self):
        super().__init__()
        self.out, self.into = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.out(torch.relu(self.into(x)))


@pytest.mark.parametrize(
    "projection, vision_dim, name",
    [
        (Made(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 6)), 8, "gelu"),
        (Made(nn.Linear(8, 6), nn.GELU("tanh"), nn.Linear(6, 6)), 8, "gelu_pytorch_tanh"),
        (Made(nn.Linear(8, 6, bias=False), nn.SiLU(), nn.Linear(6, 6)), 8, "silu"),
        (Made(nn.Linear(8, 6), nn.Linear(6, 6)), 8, "linear"),
        (Made(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(6)), 8, "relu"),
        (Backwards(), 6, "relu"),
    ],
)
def test_projections_that_are_llavas_under_another_name(projection, vision_dim, name):
    projection(torch.zeros(1, 1, vision_dim))
    shaken(projection)
    activation, weights = export.llava_projector(projection, vision_dim, 6)
    assert activation == name
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": vision_dim, "num_attention_heads": 1},
        text_config={"model_type": "llama", "hidden_size": 6, "num_attention_heads": 1},
        projector_hidden_act=activation,
    )
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    theirs = LlavaMultiModalProjector(config)
    theirs.load_state_dict(weights, strict=True)
    x = torch.randn(2, 3, vision_dim)
    with torch.no_grad():
        assert torch.allclose(theirs(x), projection(x), atol=1e-5)


@pytest.mark.parametrize(
    "projection, says",
    [
        (Made(nn.Linear(8, 6)), "has other layers"),
        (Made(nn.Linear(8, 9), nn.GELU(), nn.Linear(9, 6)), "has other layers"),
        (Made(nn.LayerNorm(8), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 6)), "has more parameters .layers.0.weight"),
        (Made(nn.Linear(8, 6), nn.ELU(), nn.Linear(6, 6)), "computes something else with such layers"),
        (Made(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 6), nn.GELU()), "computes something else"),
        (Made(nn.Linear(8, 6), nn.PReLU(), nn.Linear(6, 6)), "has more parameters .layers.1.weight"),
    ],
)
def test_projections_that_llava_cannot_carry_are_named(projection, says):
    with pytest.raises(WeightsError, match=f"Stock LLaVA cannot carry this projection(.|\n)*{says}(.|\n)*Made"):
        export.llava_projector(projection, 8, 6)


def test_a_projection_that_is_no_longer_there_is_said_so(out, tmp_path):
    import shutil

    shutil.copytree(out, tmp_path / "artifacts")
    save_vlm(tmp_path / "artifacts", Made(nn.Linear(128, 32)))
    with pytest.raises(
        WeightsError, match="is not the one that was trained. Train it again with:  python3 -m course run"
    ):
        exported(tmp_path / "artifacts", "step6_vlm", tmp_path / "to")
    assert not (tmp_path / "to").exists()
