"""Training with real weights, on small random checkpoints: pictures as CLIP prepares them, LLaVA's conversations, two
stages, a memory estimate that holds, and an export that stock transformers answers alike with."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

from course import kernels, steps
from course.errors import CourseError, UsageError
from course.machine.pictures import read_picture
from course.training.job import Job
from course.weights import WeightsError, export, models
from course.weights.memory import kept_bytes, training_memory
from course.weights.processor import Processor
from course.world import draw, questions, sample_scenes
from step6_vlm import llava
from tests import checkpoints

transformers = pytest.importorskip("transformers")


# Pictures as CLIP's processor prepares them.


@pytest.mark.parametrize(
    "width, height", [(224, 224), (640, 480), (333, 1000), (101, 57), (225, 224), (3, 400), (1, 1)]
)
def test_pictures_are_prepared_as_clip_does(width, height):
    theirs = transformers.CLIPImageProcessorPil()
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(noise)
    wanted = theirs(images=picture, return_tensors="pt")["pixel_values"][0]
    ours = Processor()(picture)
    assert ours.shape == (3, 224, 224) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)


def test_a_processor_of_ones_own(tmp_path):
    config = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 30}, crop_size=30, image_mean=[0.5] * 3, image_std=[0.2] * 3
    )
    config.save_pretrained(tmp_path)
    picture = draw(sample_scenes(1, "train", 1)[0], size=47)
    torch.testing.assert_close(
        Processor.read(tmp_path, 30)(picture),
        config(images=picture, return_tensors="pt")["pixel_values"][0],
        atol=1e-5,
        rtol=0,
    )
    (tmp_path / "preprocessor_config.json").write_text('{"size": 30, "crop_size": 30}')  # as old files have it
    assert Processor.read(tmp_path, 30) == Processor(30)
    assert Processor.read(tmp_path / "none", 24) == Processor(24)
    for other in (
        {"size": {"height": 30, "width": 40}},
        {"do_center_crop": False},
        {"resample": 2},
        {"crop_size": 28},
        {"rescale_factor": 1.0},
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 30, "crop_size": 30, **other}))
        with pytest.raises(WeightsError, match="another way than CLIP"):
            Processor.read(tmp_path, 30)


# Conversations.


def talk(image="a.png", *said, **more):
    said = said or ("<image>\nwhat is it?", "a circle.")
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
    return {"id": "1", "conversations": turns, **({} if image is None else {"image": image}), **more}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 30), (200, 30, 40)).save(tmp_path / "a.png")
    return tmp_path


def read(folder, entries):
    path = folder / "data.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return llava.read_conversations(path, folder)


def test_conversations_are_read(folder):
    (one, two, three) = read(
        folder, [talk(), talk(None, "Hi", "Ho"), talk("a.png", "what is it?\n<image>", "this.", "sure?", "yes.")]
    )
    assert one == llava.Entry(
        0, "a.png", [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "a circle."}]
    )
    assert two.image is None and three.number == 2 and [m["role"] for m in three.messages] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    "entry, says",
    [
        (5, "it has no conversations"),
        ({"conversations": []}, "it has no conversations"),
        (talk("gone.png"), "its picture gone.png is not in"),
        (talk("../a.png"), "no path inside the folder"),
        (talk("/a.png"), "no path inside the folder"),
        (talk(["a.png", "a.png"]), "several pictures"),
        (talk("a.png", "<image> and <image>?", "two."), "several pictures"),
        (talk(None, "<image>?", "two."), "names no picture"),
        (talk("a.png", "Hi", "Ho", "Hi"), "last word is the human's"),
        (talk("a.png", "Hi", " "), "answer in turn 1 is empty"),
        ({"conversations": [{"from": "system", "value": "x"}]}, "turn 0 is from 'system'; there are human and gpt"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "not their turn"),
        ({"conversations": [{"from": "human", "value": None}]}, "turn 0 has no text"),
    ],
)
def test_bad_entries_are_named_by_their_number(folder, entry, says):
    with pytest.raises(
        llava.DataError, match=rf"2 of 4 entries cannot be used (.|\n)*entry 1: .*{says}(.|\n)*entry 3: "
    ):
        read(folder, [talk(), entry, talk(), entry])


def test_broken_entries_are_left_out_if_one_says_so(folder):
    (folder / "data.json").write_text(json.dumps([5, talk(), talk("gone.png"), talk("a.png", "</s>?", "no.")]))
    said = []
    (one,) = llava.read_conversations(folder / "data.json", folder, ["</s>"], True, said.append)
    assert one.number == 1 and "3 of 4 entries cannot be used" in said[0] and "They are left out" in said[0]
    assert "entry 3: it says </s>, which means something else" in said[0]
    with pytest.raises(llava.DataError, match="--skip-broken"):
        llava.read_conversations(folder / "data.json", folder)
    (folder / "b.png").write_text("no picture")
    entries = [llava.Entry(i, name, one.messages) for i, name in enumerate(["a.png", "b.png"])]

    class Chat:
        limit = 9

        def batch(self, talks):
            return {"labels": torch.ones(len(talks), 3, dtype=torch.long)}

    data = llava.Conversations(Chat(), entries, folder, Processor(32), None, 2, 0, skip_broken=True)
    assert [len(value) for value in data.prepare(entries).values()] == [1, 1]
    with pytest.raises(llava.DataError, match="all pictures of a batch are broken, that of entry 1"):
        data.prepare(entries[1:])


def test_bad_files_are_said_to_be_bad(folder):
    for text, says in [("{", "cannot be read as JSON"), ("{}", "must hold a list"), ("[]", "must hold a list")]:
        with pytest.raises(llava.DataError, match=says):
            read(folder, text)
    with pytest.raises(llava.DataError, match="entry 4: (.|\n)*and 2 more"):
        read(folder, [5] * 7)
    with pytest.raises(llava.DataError, match="no folder"):
        llava.read_conversations(folder / "data.json", folder / "none")
    with pytest.raises(llava.DataError, match="cannot be read"):
        llava.read_conversations(folder / "none.json", folder)


def test_flags_go_together():
    flags = dict(
        skip_broken=False,
        vision=None,
        llm=None,
        data=None,
        images=None,
        batch_size=None,
        projection_steps=None,
        steps=None,
    )
    assert llava.settings("tiny", Namespace(**flags)) is None
    with pytest.raises(UsageError, match="--llm, --images is missing"):
        llava.settings("tiny", Namespace(**{**flags, "vision": "a/b", "data": ["x"]}))
    with pytest.raises(UsageError, match="go with real weights"):
        llava.settings("tiny", Namespace(**{**flags, "batch_size": 3}))
    every = {**flags, "vision": "a/b", "llm": "c/d", "data": ["x"], "images": "y"}
    assert llava.settings("small", Namespace(**{**every, "steps": 7}))["max_steps"] == 7
    with pytest.raises(UsageError, match="at least 1"):
        llava.settings("tiny", Namespace(**{**every, "batch_size": 0}))


# The memory.


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("learns", [True, False], ids=["the language model learns", "it is frozen"])
def test_what_the_language_model_keeps_is_what_is_counted(bf16, learns):
    gpt = kernels.use(
        steps.load("step2_gpt", "solution"), torch.device("cuda" if bf16 else "cpu")
    )  # as each device has it
    config = gpt.GPTConfig(128, 96, 256, 3, 4, 2, 64)
    model, kept = gpt.GPT(config), {}
    model.requires_grad_(learns)
    shapes = {parameter.shape for parameter in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}

    def keep(tensor):
        if tensor.shape not in shapes:  # weights, or autocast's copies of them
            kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    rows = torch.randn(8, 64, 96, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        model(inputs_embeds=rows, labels=torch.randint(128, (8, 64)))
    measured = sum(count for count, _ in kept.values()) / (8 * 64)
    counted = kept_bytes(config, learns, bf16) + 4 * config.vocab_size  # the log-softmax
    assert counted == pytest.approx(measured, rel=0.1)


def test_the_estimate_counts_what_learns():
    gpt, vlm = steps.load("step2_gpt", "solution"), steps.load("step6_vlm", "solution")
    vision = vlm.CLIPVisionConfig(224, 16, 768, 3072, 12, 12)
    config = gpt.GPTConfig(49152, 576, 1536, 30, 9, 3, 2048)
    few, all_ = (
        training_memory(222_000_000, learning, config, vision, 16, 400, llm_learns, True)
        for learning, llm_learns in ((1_000_000, False), (136_000_000, True))
    )
    assert few.weights == all_.weights == 6 * 222_000_000
    assert all_.gradients_and_moments == 12 * 136_000_000 and few.activations < all_.activations
    assert 5e9 < all_.total < 20e9 and "GB gradients and Adam" in str(all_)


# Training.


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two checkpoints, and conversations about pictures of several sizes, with some without a picture."""
    root = tmp_path_factory.mktemp("real")
    checkpoints.save_eye(root / "eye", sizes={**checkpoints.EYE, "image_size": 32})
    checkpoints.save_llama(root / "llama", tie_word_embeddings=True)
    (root / "pictures").mkdir()
    entries = []
    rng = random.Random(0)
    for i, scene in enumerate(sample_scenes(48, "train", 5)):
        draw(scene, size=32 + i % 7).resize((40 + i % 5, 32 + i % 7)).save(root / "pictures" / f"{i}.png")
        said = [text for q in questions(scene, rng, 2) for text in (q.text, q.answer)]
        entries.append(talk(f"{i}.png", "<image>\n" + said[0], *said[1:]))
    entries += [talk(None, "how many are there?", "two."), talk(None, "what is in the picture?", "a red circle.")]
    (root / "data.json").write_text(json.dumps(entries))
    return root


def options(root, **changes):
    flags = dict(
        skip_broken=False,
        vision=str(root / "eye"),
        llm=str(root / "llama"),
        data=[str(root / "data.json")],
        images=str(root / "pictures"),
        batch_size=None,
        projection_steps=None,
        steps=None,
        compile=False,
    )
    return Namespace(**{**flags, **changes})


def job_for(root, out, **changes):
    chosen = options(root, **changes)
    return Job("step6_vlm", "smoke", llava.settings("smoke", chosen), "cpu", out=out, code="solution", options=chosen)


@pytest.fixture(scope="module")
def trained(real, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    job = job_for(real, out, projection_steps=12, steps=30)
    said = []
    job.note = said.append
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two small threads wait for each other longer than they work
    llava.train(job)
    torch.set_num_threads(threads)
    return out, job, said


def test_both_stages_learn_and_the_eye_does_not(real, trained):
    out, job, said = trained
    figures = job.load("step6_vlm").figures
    assert figures["loss"]["sighted"] < figures["loss_projection_alone"]["sighted"] < figures["loss_before"]["sighted"]
    history = job.load("step6_vlm").history
    assert {name: len(curve) for name, curve in history.items()} == {
        "loss, projection only": 12,
        "loss, projection and language model": 30,
    }
    tensors = job.load("step6_vlm").tensors
    eye = models.read_vision(job.use("step6_vlm"), real / "eye").state_dict()
    assert all(torch.equal(tensors[f"vision.{name}"], value) for name, value in eye.items())
    assert figures["held_out"] == 4 and figures["entries"] == [44, 46]
    text = "\n".join(said)
    assert (
        "memory, estimated: projection alone" in text
        and "memory, used at the peak" in text
        and "estimated were" in text
    )
    assert "it says:" in text and len(json.loads(job.load("step6_vlm").text("answers.json"))) == 3


def test_what_is_trained_is_exported(real, trained, tmp_path):
    out, job, _ = trained
    export.export(Job("step6_vlm", "smoke", device="cpu", out=out), tmp_path / "to")
    theirs, info = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "to")
    assert theirs.config.image_token_id == 300 and theirs.config.text_config.vocab_size == 301  # the table has grown
    artifact, vlm, gpt = job.load("step6_vlm"), job.use("step6_vlm"), job.use("step2_gpt")
    eye = vlm.CLIPVisionModel(vlm.CLIPVisionConfig(**artifact.config["vision"]))
    ours = vlm.VLM(gpt.GPT(gpt.GPTConfig(**artifact.config["llm"])), 20, 16, eye.config.num_patches, eye)
    ours.load_state_dict(artifact.tensors, strict=True)
    chat = llava.FolderChat(llava.FolderTokenizer(real / "llama"), job.use("step4_sft"))
    pictures = [read_picture(real / "pictures" / f"{i}.png") for i in range(3)]
    asked = ["what is in the picture?", "how many?", "where is the circle?"]
    talks = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}] for text in asked]
    batch = processor(
        images=pictures,
        text=[processor.apply_chat_template(one, add_generation_prompt=True) for one in talks],
        padding=True,
        return_tensors="pt",
    )
    shown = torch.stack([Processor.read(real / "eye", 32)(picture) for picture in pictures])
    # Where torchvision is installed, transformers resizes with that, and here and there to the next of 256
    # brightnesses.
    atol = 0.016 if importlib.util.find_spec("torchvision") else 1e-5
    torch.testing.assert_close(batch["pixel_values"], shown, atol=atol, rtol=0)
    words = torch.tensor([chat.ids([{"role": "user", "content": asked[0]}], True)])
    first = processor(
        images=pictures[0],
        text=processor.apply_chat_template(talks[0], add_generation_prompt=True),
        return_tensors="pt",
    )
    assert first["input_ids"].tolist() == [[300] * 16 + words[0].tolist()]
    features = ours.eval().see(shown)
    with torch.no_grad():
        assert torch.allclose(theirs(**first).logits[..., :300], ours(words, features[:1])[0], atol=1e-4)
    new = theirs.generate(**batch, max_new_tokens=12)[:, batch["input_ids"].shape[1] :]
    assert processor.batch_decode(new, skip_special_tokens=True) == chat.replies(
        ours, asked, features, max_new_tokens=12
    )
    assert any(chat.replies(ours, asked, features, max_new_tokens=12))


def test_batches_are_the_same_whenever_they_are_asked_for(real, tmp_path):
    job = job_for(real, tmp_path)
    entries = llava.read_conversations(real / "data.json", real / "pictures")
    chat = llava.FolderChat(llava.FolderTokenizer(real / "llama"), job.use("step4_sft"))

    def conversations():
        return llava.Conversations(
            chat, entries, real / "pictures", Processor(32), lambda pixels: pixels.mean((2, 3))[:, None], 4, 3
        )

    one, other = conversations(), conversations()
    first = [one(i) for i in range(26)]
    for i in (25, 3, 14, 13):
        again = other(i)
        assert again.keys() == first[i].keys() and all(torch.equal(again[key], first[i][key]) for key in again)
    assert (
        sum(len(batch["input_ids"]) for batch in first[:13])
        == 50
        == sum(len(batch["input_ids"]) for batch in first[13:])
    )
    assert sum("features" not in batch for batch in first) == 2
    chat.limit = 6
    with pytest.raises(llava.DataError, match="its first question alone is longer than 6 tokens"):
        conversations()(0)


def test_a_broken_picture_is_named_by_its_entry(real, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    data = llava.Conversations(None, [], tmp_path, Processor(32), None, 4, 3)
    with pytest.raises(llava.DataError, match=r"entry 7: .*a\.png is no picture .* go on with --resume"):
        data.picture(llava.Entry(7, "a.png", []))


def test_models_that_do_not_go_together_are_refused(real, tmp_path):
    checkpoints.save_llama(tmp_path / "short", max_position_embeddings=20)
    with pytest.raises(CourseError, match="reads 20 tokens, and a picture takes 16"):
        llava.train(job_for(real, tmp_path, llm=str(tmp_path / "short")))
    checkpoints.save_llama(tmp_path / "small", vocab_size=200)
    with pytest.raises(CourseError, match="has 300 ids, its model 200"):
        llava.train(job_for(real, tmp_path, llm=str(tmp_path / "small")))


def command(real, out, *more):
    return [
        sys.executable,
        "-m",
        "step6_vlm.train",
        "--preset",
        "smoke",
        "--device",
        "cpu",
        "--code",
        "solution",
        "--vision",
        str(real / "eye"),
        "--llm",
        str(real / "llama"),
        "--data",
        str(real / "data.json"),
        "--images",
        str(real / "pictures"),
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_where_it_was(real, tmp_path):
    """As a script: Ctrl-C in the second stage, the command it names, and the same figures as without a break."""
    how = dict(cwd=steps.ROOT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    whole = subprocess.run(command(real, tmp_path / "whole", "--steps", "300"), **how, capture_output=True)
    assert whole.returncode == 0, whole.stderr
    words = command(real, tmp_path / "broken", "--steps", "300")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, **how)
    seen = ""
    while "step6 projection and language model" not in seen:
        seen += process.stderr.read(1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    again = next(line for line in err.splitlines() if "Go on where it was" in line).partition("with:  ")[2].split()
    assert again[:3] == ["python3", "-m", "step6_vlm.train"] and again[-1] == "--resume" and str(real / "eye") in again
    done = subprocess.run([sys.executable, *again[1:]], **how, capture_output=True)
    assert done.returncode == 0, done.stderr
    figures = [
        json.loads((tmp_path / name / "step6_vlm" / "artifact.json").read_text())["figures"]
        for name in ("whole", "broken")
    ]
    for name in ("loss_before", "loss_projection_alone", "loss"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-5), name
    kept = subprocess.run([sys.executable, *again[1:]], **how, capture_output=True)
    assert kept.returncode == 0 and "finished already" in kept.stderr


@pytest.mark.slow
def test_two_processes_train_on_entries_without_a_picture_too(real, tmp_path):
    words = command(real, tmp_path)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [words[0], *launch, *words[1:]],
        cwd=steps.ROOT,
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    artifact = json.loads((tmp_path / "step6_vlm" / "artifact.json").read_text())
    assert artifact["processes"] == 2 and artifact["figures"]["entries"] == [44, 46]


def test_the_script_says_what_is_missing(real):
    words = [sys.executable, "-m", "step6_vlm.train", "--vision", "a/b", "--llm", "c/d"]
    done = subprocess.run(words, cwd=steps.ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--data, --images is missing" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda on this machine")
def test_it_trains_on_cuda(real, tmp_path):
    chosen = options(real)
    job = Job(
        "step6_vlm", "smoke", llava.settings("smoke", chosen), "cuda", out=tmp_path, code="solution", options=chosen
    )
    figures = llava.train(job)
    assert figures["loss"]["sighted"] < figures["loss_before"]["sighted"] and figures["memory_used_mb"] > 0
