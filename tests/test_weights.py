"""Real checkpoints in the course's own classes: the same numbers as transformers, or a refusal that names the
reason."""

import json
import os
import subprocess
import sys

import pytest
import torch

from course import steps
from course.training import chat
from course.weights import WeightsError, files, hub, models
from course.weights.tokenizer import FolderChat, FolderTokenizer
from tests import checkpoints

transformers = pytest.importorskip("transformers")
vlm, gpt, sft = (steps.load(name, "solution") for name in ("step6_vlm", "step2_gpt", "step4_sft"))


@pytest.fixture(scope="module")
def eye(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "eye"
    return folder, checkpoints.save_eye(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "llama"
    return folder, checkpoints.save_llama(
        folder, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    )


def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def retold(folder, change):
    """Write the weights of a folder anew, changed by `change(tensors)`."""
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


# The eye.


def same_eye(folder, theirs):
    ours = models.read_vision(vlm, folder)
    pictures = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        tower = theirs.vision_model if hasattr(theirs, "vision_model") else theirs
        said = tower(pixel_values=pictures, output_hidden_states=True)
        assert torch.allclose(ours(pictures), said.hidden_states[-2][:, 1:], atol=1e-4)
        assert torch.allclose(ours.pooled(pictures), said.pooler_output, atol=1e-4)
    assert not ours.training and ours.config.hidden_size == 20


@pytest.mark.parametrize("spelling", ["", "vision_model."])
def test_an_eye_of_either_spelling(eye, tmp_path, spelling):
    folder = copy(eye[0], tmp_path)
    retold(
        folder,
        lambda tensors: (
            {spelling + name.removeprefix("vision_model."): value for name, value in tensors.items()}
            | {spelling + "embeddings.position_ids": torch.arange(10)[None]}
        ),
    )
    same_eye(folder, eye[1])


def test_the_eye_of_a_whole_clip(tmp_path):
    theirs = checkpoints.save_eye(tmp_path, whole=True)
    same_eye(tmp_path, theirs)
    sizes = json.loads((tmp_path / "config.json").read_text())["vision_config"]
    checkpoints.change_config(tmp_path, vision_config={}, vision_config_dict=sizes)  # as in old files of OpenAI's
    same_eye(tmp_path, theirs)


def test_half_precision_is_read_as_float32(eye, tmp_path):
    folder = copy(eye[0], tmp_path)
    retold(folder, lambda tensors: {name: value.half() for name, value in tensors.items()})
    ours = models.read_vision(vlm, folder)
    assert all(value.dtype == torch.float32 for value in ours.state_dict().values())


def test_sizes_that_are_left_out_are_transformers_own(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model"}')
    assert models.vision_config(tmp_path).items() <= transformers.CLIPVisionConfig().to_dict().items()
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.LlamaConfig()
    for name, value in models.llm_config(tmp_path).items():
        assert value == (theirs.rope_parameters["rope_theta"] if name == "rope_theta" else getattr(theirs, name)), name


# The language model.


@pytest.mark.parametrize(
    "tied, shard, spelling",
    [
        (True, "5GB", "rope_parameters"),
        (False, "5GB", "rope_theta"),
        (True, "8KB", "rope_theta"),
        (False, "8KB", "rope_parameters"),
    ],
)
def test_a_llama(tmp_path, tied, shard, spelling):
    theirs = checkpoints.save_llama(
        tmp_path, shard=shard, tie_word_embeddings=tied, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    )
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 2) == (shard == "8KB")
    if spelling == "rope_theta":
        checkpoints.change_config(tmp_path, remove=("rope_parameters", "head_dim"), rope_theta=500, rope_scaling=None)
    ours = models.read_llm(gpt, tmp_path)
    ids = torch.randint(3, 300, (2, 40))
    with torch.no_grad():
        assert torch.allclose(ours(ids)[0], theirs(ids).logits, atol=1e-4)
        new = theirs.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)[:, 40:]
    assert ours.generate(ids, max_new_tokens=8).tolist() == new.tolist()
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == tied


def test_old_files_with_buffers_and_both_ends_of_a_tie(llama, tmp_path):
    folder = copy(llama[0], tmp_path)
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    retold(folder, lambda t: {**t, **extra, "lm_head.weight": t["model.embed_tokens.weight"].clone()})
    models.read_llm(gpt, folder)
    retold(folder, lambda t: {**t, "lm_head.weight": t["lm_head.weight"] + 1})
    with pytest.raises(WeightsError, match="says tie_word_embeddings, but lm_head.weight and .* differ"):
        models.read_llm(gpt, folder)


# What is refused, and in which words.


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}), r"RoPE is scaled \(llama3\)"),
        (dict(rope_parameters=None, rope_scaling={"type": "linear", "factor": 2.0}), r"RoPE is scaled \(linear\)"),
        (dict(attention_bias=True), "attention_bias is True, and here it is always False"),
        (dict(mlp_bias=True, hidden_act="gelu"), "hidden_act is 'gelu', .* 'silu'; mlp_bias is True"),
        (dict(head_dim=8), "head_dim is 8, and here it is always 4"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(model_type="qwen3"), "holds a 'qwen3'. The GPT of step 2 is a Llama"),
        (dict(num_attention_heads=3), "hidden_size 16 must split into 3 heads"),
        (dict(hidden_size="wide"), "hidden_size is 'wide', which is no size"),
        (dict(vocab_size=-1), "vocab_size is -1, which is no size"),
        (dict(num_hidden_layers=3), r"missing: model\.layers\.2\..*and 3 more"),
        (dict(num_hidden_layers=1), r"unexpected: model\.layers\.1\."),
        (dict(vocab_size=299), r"other shapes: model\.embed_tokens\.weight is \[300, 16\] and should be \[299, 16\]"),
    ],
)
def test_llamas_that_the_gpt_cannot_be(llama, tmp_path, changes, says):
    folder = copy(llama[0], tmp_path)
    checkpoints.change_config(folder, remove=("head_dim",) if "num_attention_heads" in changes else (), **changes)
    with pytest.raises(WeightsError, match=says):
        models.read_llm(gpt, folder)


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(hidden_act="gelu"), "hidden_act is 'gelu', and here it is always 'quick_gelu'"),
        (dict(model_type="siglip_vision_model"), "holds a 'siglip_vision_model'. An eye is a CLIP vision model"),
        (dict(patch_size=12), r"other shapes: .*patch_embedding"),
    ],
)
def test_eyes_that_cannot_be_read(eye, tmp_path, changes, says):
    folder = copy(eye[0], tmp_path)
    checkpoints.change_config(folder, **changes)
    with pytest.raises(WeightsError, match=says):
        models.read_vision(vlm, folder)


def test_half_a_checkpoint_is_no_checkpoint(eye, llama, tmp_path):
    folder = copy(eye[0], tmp_path)
    retold(folder, lambda t: {("other." + name if "layers.1" in name else name): value for name, value in t.items()})
    with pytest.raises(WeightsError) as refusal:
        models.read_vision(vlm, folder)
    text = str(refusal.value)
    assert (
        "missing: encoder.layers.1." in text and "unexpected: other.encoder.layers.1." in text and "and 10 more" in text
    )
    with pytest.raises(WeightsError, match="holds a 'llama'"):
        models.read_vision(vlm, llama[0])
    with pytest.raises(WeightsError, match="holds a 'clip_vision_model'"):
        models.read_llm(gpt, eye[0])


def test_damaged_folders_say_what_is_damaged(llama, tmp_path):
    folder = copy(llama[0], tmp_path)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for cut in (content[: len(content) // 2], content[:4], b""):
        weights.write_bytes(cut)
        with pytest.raises(WeightsError, match=r"model\.safetensors is damaged or cut off"):
            models.read_llm(gpt, folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"only pytorch_model\.bin: a pickle, .*save_pretrained"):
        models.read_llm(gpt, folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match="the weights are missing"):
        models.read_llm(gpt, folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        models.read_llm(gpt, folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="holds a list"):
        models.read_llm(gpt, folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        models.read_llm(gpt, folder)


def test_shards_that_are_missing_or_lie(tmp_path):
    checkpoints.save_llama(tmp_path, shard="8KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    lost = sorted(set(index["weight_map"].values()))[1]
    kept = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    with pytest.raises(WeightsError, match=f"lacks {lost}"):
        models.read_llm(gpt, tmp_path)
    (tmp_path / lost).write_bytes(kept)
    index["weight_map"]["model.more"] = lost
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"do not hold what .* lists: model\.more"):
        models.read_llm(gpt, tmp_path)
    index["weight_map"]["model.more"] = "../outside.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="no weight_map"):
        files.read_tensors(tmp_path)


# The tokenizer and the template that came with the weights.

TALK = [
    {"role": "user", "content": "what is in the picture?"},
    {"role": "assistant", "content": "a red circle."},
    {"role": "user", "content": "how many?"},
    {"role": "assistant", "content": "two."},
]


def test_a_chat_with_the_checkpoints_own_template(llama):
    theirs = transformers.AutoTokenizer.from_pretrained(llama[0])
    tokenizer = FolderTokenizer(llama[0])
    talk = FolderChat(tokenizer, sft)
    ids, labels = talk.row(TALK)
    assert ids == theirs.apply_chat_template(TALK, return_dict=False)
    assert talk.ids(TALK[:3], True) == theirs.apply_chat_template(
        TALK[:3], add_generation_prompt=True, return_dict=False
    )
    learned = [i for i in labels if i != -100]
    assert [i for i, label in zip(ids, labels) if label != -100] == learned
    assert theirs.decode(learned) == "a red circle.<|im_end|>two.<|im_end|>"
    assert tokenizer.special_tokens == {"<|end|>": 1, "<|pad|>": 0} and not tokenizer.plain
    assert tokenizer.decode(tokenizer.encode_ordinary("red <|im_end|>")) == "red <|im_end|>"
    with pytest.raises(ValueError, match="special token"):
        talk.row([{"role": "user", "content": "<|im_end|>"}])


def test_batches_and_replies_work_as_in_steps_4_to_6(llama):
    talk, model = FolderChat(FolderTokenizer(llama[0]), sft), models.read_llm(gpt, llama[0])
    batch = talk.batch([TALK, TALK[:2]])
    assert batch["input_ids"].shape == batch["labels"].shape and batch["input_ids"][1, -1] == 0
    assert torch.isfinite(model(**batch)[1])
    theirs, tokenizer = llama[1], transformers.AutoTokenizer.from_pretrained(llama[0])
    for question, reply in zip(
        questions := ["how many?", "what is in the picture?"], talk.replies(model, questions, max_new_tokens=9)
    ):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        new = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)[
            0, ids.shape[1] :
        ]
        assert reply == tokenizer.decode(new, skip_special_tokens=True).removeprefix(" ")
    assert isinstance(talk, chat.Chat)


def test_a_base_model_gets_llavas_template(tmp_path):
    checkpoints.tokenizer(None).save_pretrained(tmp_path)
    tokenizer = FolderTokenizer(tmp_path)
    assert (
        tokenizer.plain
        and tokenizer.render(TALK[:2]) == "USER: what is in the picture? ASSISTANT: a red circle.<|im_end|>"
    )
    ids, labels = FolderChat(tokenizer, sft).row(TALK)
    assert tokenizer.hf.decode([i for i in labels if i != -100]) == " a red circle.<|im_end|> two.<|im_end|>"


@pytest.mark.parametrize(
    "template, says",
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "ends no reply with a special token"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}",
            "rewrites what was said",
        ),
        ("{{ raise_exception('not today') }}", "not today"),
    ],
)
def test_templates_that_cannot_be_learned_from(tmp_path, template, says):
    checkpoints.tokenizer(template).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=says):
        FolderTokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_says_so(eye, tmp_path):
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json"):
        FolderTokenizer(eye[0])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be read"):
        FolderTokenizer(tmp_path)


# By name, from a hub.


@pytest.fixture
def served(llama, eye, tmp_path, monkeypatch):
    """A hub that serves both checkpoints, which huggingface_hub takes for the real one."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
    with checkpoints.hub({"org/tiny-llama": llama[0], "org/eye": eye[0]}) as (state, address):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = address + huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(
            huggingface_hub.constants._HF_DEFAULT_ENDPOINT
        )
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield state


def test_a_name_is_fetched_once_and_its_size_said_first(served, llama, tmp_path, capsys):
    folder = hub.locate("org/tiny-llama", tmp_path / "ours")
    said = capsys.readouterr().err
    size = sum(path.stat().st_size for path in llama[0].iterdir())
    assert f"org/tiny-llama: {size / 1e6:.1f} MB to fetch into {folder}" in said
    assert {path.name for path in folder.iterdir()} == {path.name for path in llama[0].iterdir()} | {hub.DONE}
    models.read_llm(gpt, folder)
    FolderTokenizer(folder)
    before = len(served.asked)
    assert hub.locate("org/tiny-llama", tmp_path / "ours") == folder and len(served.asked) == before + 1
    assert capsys.readouterr().err == ""
    served.folders.clear()  # the name is gone, and then the network
    with pytest.raises(WeightsError, match="The hub has no org/tiny-llama"):
        hub.locate("org/tiny-llama", tmp_path / "ours")


def test_a_broken_download_goes_on_where_it_was(served, llama, tmp_path, capsys, monkeypatch):
    import huggingface_hub.file_download as theirs

    size = (llama[0] / "model.safetensors").stat().st_size
    monkeypatch.setattr(theirs.constants, "DOWNLOAD_CHUNK_SIZE", 2000)
    monkeypatch.setattr(theirs.time, "sleep", lambda seconds: None)
    served.cut = size // 3  # the connection breaks again and again
    hub.locate("org/tiny-llama", tmp_path / "one")
    begins = [begin for file, begin in served.asked if file == "model.safetensors"]
    assert begins[0] == 0 and len(begins) >= 3 and begins == sorted(set(begins))
    served.cut, served.asked = None, []
    folder = tmp_path / "two" / "org--tiny-llama" / served.info("org/tiny-llama")["sha"]  # a run that was killed
    folder.mkdir(parents=True)
    hub.part(folder, "model.safetensors").write_bytes((llama[0] / "model.safetensors").read_bytes()[:5000])
    capsys.readouterr()
    assert hub.locate("org/tiny-llama", tmp_path / "two") == folder
    assert ("model.safetensors", 5000) in served.asked and "are still missing" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == (llama[0] / "model.safetensors").read_bytes()


def test_what_arrives_is_verified(served, tmp_path):
    served.spoil = True
    with pytest.raises(
        WeightsError, match=r"model\.safetensors arrived with other bytes .* run the same command again"
    ):
        hub.locate("org/eye", tmp_path)
    assert not list(tmp_path.rglob("model.safetensors*"))
    served.spoil = False
    models.read_vision(vlm, hub.locate("org/eye", tmp_path))


def test_what_others_have_fetched_is_used(served, llama, tmp_path):
    from huggingface_hub import hf_hub_download

    sha = served.info("org/tiny-llama")["sha"]
    snapshot = tmp_path / "theirs" / "models--org--tiny-llama" / "snapshots" / sha
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes((llama[0] / "model.safetensors").read_bytes())
    assert hf_hub_download  # the library whose cache this is
    folder = hub.locate("org/tiny-llama", tmp_path / "ours")
    assert "model.safetensors" not in [file for file, _ in served.asked]
    models.read_llm(gpt, folder)


def test_names_and_folders_that_do_not_exist(served, eye, tmp_path):
    assert hub.locate(str(eye[0])) == eye[0]
    for name, says in [
        ("org/none", "has no org/none"),
        ("./none", "no folder"),
        ("none", "no folder"),
        ("a/b/c", "no folder"),
        (str(eye[0] / "config.json"), "is a file; name the folder"),
    ]:
        with pytest.raises(WeightsError, match=says):
            hub.locate(name, tmp_path)
    served.folders["org/pickled"] = tmp_path
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"has no model\.safetensors, only pytorch_model\.bin: a pickle"):
        hub.locate("org/pickled", tmp_path / "cache")


def test_old_repositories_of_pickles_are_read_as_the_hubs_robot_has_converted_them(served, eye, tmp_path, capsys):
    (tmp_path / "pickled").mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / "pickled" / name).write_text("{}")
    served.folders["org/old"] = tmp_path / "pickled"
    title = "Adding `safetensors` variant of this model"
    served.offers = [("somebody", title, tmp_path / "pickled")]
    with pytest.raises(WeightsError, match="a pickle, which can run any code"):  # anybody may offer anything
        hub.locate("org/old", tmp_path / "ours")
    served.offers += [(hub.ROBOT, "Something else", tmp_path / "pickled"), (hub.ROBOT, title, eye[0])]
    models.read_vision(vlm, hub.locate("org/old", tmp_path / "ours"))
    assert "has pickles only; using the safetensors" in capsys.readouterr().err


def test_without_a_network_what_is_there_serves(served, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    folder = hub.locate("org/eye", tmp_path / "ours")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub.locate("org/eye", tmp_path / "ours") == folder
    assert "the hub cannot be reached; using" in capsys.readouterr().err
    with pytest.raises(
        WeightsError, match="org/tiny-llama is not on this machine, .*hf download org/tiny-llama --local-dir"
    ):
        hub.locate("org/tiny-llama", tmp_path / "ours")


SCRIPT = (
    "import sys; from course.weights import hub; from pathlib import Path; "
    "print(hub.locate('org/eye', Path(sys.argv[1])))"
)


@pytest.mark.slow
def test_another_hub_is_named_as_users_name_it(eye, tmp_path):
    """By the environment variable that huggingface_hub knows."""

    def locate():
        environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_ETAG_TIMEOUT": "2",
        }
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "cache")],
            env=environment,
            cwd=steps.ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )

    with checkpoints.hub({"org/eye": eye[0]}) as (_, address):
        first = locate()
        assert first.returncode == 0, first.stderr
    again = locate()
    assert again.stdout == first.stdout and "the hub cannot be reached; using" in again.stderr, again.stderr
