"""What a step has trained as a checkpoint that stock transformers loads, without any code of ours.

Steps 3 to 5 become a LlamaForCausalLM, step 6 a LlavaForConditionalGeneration; tokenizer, chat template,
processor and generation settings lie beside the weights. Same logits, same ids for the same conversation,
same greedy answers.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from course import chain, steps
from course.authoring.source import fingerprint_of
from course.machine import artifacts
from course.training.job import Job
from course.weights.files import CONFIG, WHOLE, WeightsError
from course.weights.tokenizer import tokenizer_as_files

NOTE = "course_export.json"  # what an export came from and which files are its own
STEPS = ("step3_pretrain", "step4_sft", "step5_rlhf", "step6_vlm")
IMAGE, REAL_IMAGE = "<|image|>", "<image>"  # the placeholder in step 1's vocabulary, and LLaVA's
MAX_NEW_TOKENS = 80  # as course.training.chat

# Step 4's template, and before it the picture: in step 6 it stands before the first word of the conversation. Each
# message begins with a space, as course.training.chat.Chat.encode writes it.
CHAT_TEMPLATE = """\
{%- set seen = namespace(pictures=0) -%}
{%- for message in messages if message['content'] is not string -%}
  {%- for part in message['content'] if part['type'] == 'image' -%}
    {%- set seen.pictures = seen.pictures + 1 -%}
  {%- endfor -%}
{%- endfor -%}
{%- if seen.pictures > 1 -%}{{ raise_exception('there is one picture in a conversation') }}{%- endif -%}
{%- if seen.pictures -%}{{ '<|image|>' }}{%- endif -%}
{%- for message in messages -%}
  {%- if message['role'] not in ['user', 'assistant'] -%}
    {{ raise_exception('unknown role ' ~ message['role'] ~ '; there are user and assistant') }}
  {%- endif -%}
  {{ '<|' ~ message['role'] ~ '|> ' }}
  {%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}
    {%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
  {%- endif -%}
  {%- if message['role'] == 'assistant' -%}{{ '<|end|>' }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}
"""

# In front of a checkpoint's own template: the picture, and messages of plain text as the template expects them.
REAL_TEMPLATE = """\
{%- set seen = namespace(pictures=0, messages=[]) -%}
{%- for message in messages -%}
  {%- set said = namespace(text='') -%}
  {%- if message['content'] is string -%}{%- set said.text = message['content'] -%}{%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' -%}{%- set seen.pictures = seen.pictures + 1 -%}
      {%- elif part['type'] == 'text' -%}{%- set said.text = said.text + part['text'] -%}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {%- set seen.messages = seen.messages + [{'role': message['role'], 'content': said.text}] -%}
{%- endfor -%}
{%- if seen.pictures > 1 -%}{{ raise_exception('there is one picture in a conversation') }}{%- endif -%}
{%- if seen.pictures -%}{{ '<image>' }}{%- endif -%}
{%- set messages = seen.messages -%}
"""


def export(job: Job, to: Path) -> str:
    """Write the artifact of `job.step` into the folder `to`; what to do with it, in words.

    An earlier export there is replaced; any other folder that is not empty is refused (WeightsError), and so
    is a projection that stock LLaVA does not have.
    """
    to = Path(to).expanduser().absolute()
    if job.step.name not in STEPS:
        raise WeightsError(f"{job.step.name} leaves no language model. There is: {', '.join(STEPS)}.")
    _may_replace(to)
    artifact = job.load(job.step)
    vlm = job.step.name == "step6_vlm"
    config, tensors, files = (_llava if vlm else _llama)(job, artifact)
    note = {
        "step": job.step.name,
        "preset": artifact.manifest["preset"],
        "seed": artifact.manifest["seed"],
        "artifact": artifact.hash,
        "figures": artifact.figures,
    }
    files = {
        name: content if isinstance(content, str) else artifacts.to_json(content) for name, content in files.items()
    }
    files[CONFIG] = artifacts.to_json(config)
    note["files"] = sorted([*files, WHOLE, NOTE])
    with artifacts.replacing(to) as new:
        artifacts.save_tensors(new / WHOLE, tensors)
        for name, content in {**files, NOTE: artifacts.to_json(note)}.items():
            (new / name).write_text(content, encoding="utf-8")
        (new / WHOLE).chmod((new / NOTE).stat().st_mode)  # safetensors lets only its owner read it
    names = ("AutoProcessor", "LlavaForConditionalGeneration") if vlm else ("AutoTokenizer", "LlamaForCausalLM")
    return (
        f"{job.step.name} lies in {to} ({sum(path.stat().st_size for path in to.iterdir()) / 1e6:.1f} MB). "
        "Load it with:\n"
        f"  from transformers import {', '.join(names)}\n"
        f"  {'processor' if vlm else 'tokenizer'} = {names[0]}.from_pretrained({str(to)!r})\n"
        f"  model = {names[1]}.from_pretrained({str(to)!r})"
    )


def _may_replace(to: Path) -> None:
    """Raise WeightsError unless `to` can be written without a loss: new, empty, or an export and nothing
    else.
    """
    if not to.exists() and not to.is_symlink():
        return
    if not to.is_dir() or to.is_symlink():
        raise WeightsError(f"{to} is no folder of its own. Name a new one with --to.")
    there = {path.name for path in to.iterdir()}
    try:
        ours = set(json.loads((to / NOTE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if others := sorted(there - ours):
        raise WeightsError(
            f"{to} holds what no export has written ({', '.join(others[:4])}). Name a new folder with --to."
        )


def _llama(job, artifact) -> tuple[dict, dict, dict]:
    """config.json, tensors and further files of a LlamaForCausalLM."""
    tokenizer = json.loads(job.load("step1_tokenizer").text("tokenizer.json"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    config = {
        "architectures": ["LlamaForCausalLM"],
        **llama_config(artifact.config, special["<|end|>"], special["<|pad|>"]),
    }
    return config, llama_tensors(artifact.tensors, artifact.config), tokenizer_files(tokenizer, config)


def _llava(job, artifact) -> tuple[dict, dict, dict]:
    """config.json, tensors and further files of a LlavaForConditionalGeneration."""
    llm, vision = artifact.config["llm"], artifact.config["vision"]
    activation, projector = llava_projector(_projection(job, artifact), vision["hidden_size"], llm["hidden_size"])
    if "weights" in artifact.config:
        return _real_llava(artifact, activation, projector)
    if "processor" not in artifact.config:
        raise WeightsError(f"{artifact.path} was left by an older version of the course. Make it anew: {job.command()}")
    tokenizer = json.loads(job.load("step1_tokenizer").text("tokenizer.json"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    text = llama_config(llm, special["<|end|>"], special["<|pad|>"])
    llama = llama_tensors(part(artifact.tensors, "llm."), llm)
    tensors = llava_tensors(part(artifact.tensors, "vision."), projector, llama)
    files = tokenizer_files(tokenizer, text) | processor_files(vision, artifact.config["processor"], IMAGE)
    return llava_config(text, vision, special[IMAGE], activation), tensors, files


def _real_llava(artifact, activation: str, projector: dict) -> tuple[dict, dict, dict]:
    """The same for a model that was made of real weights, with their tokenizer and their template."""
    from transformers import AddedToken, AutoTokenizer

    llm, vision, end, pad = (artifact.config[name] for name in ("llm", "vision", "end", "pad"))
    tokenizer = AutoTokenizer.from_pretrained(str(artifact.path), local_files_only=True)
    tokenizer.add_tokens([AddedToken(REAL_IMAGE, special=True, normalized=False)], special_tokens=True)
    tokenizer.chat_template = REAL_TEMPLATE + tokenizer.chat_template
    image = tokenizer.convert_tokens_to_ids(REAL_IMAGE)
    llama = llama_tensors(part(artifact.tensors, "llm."), llm)
    if image >= llm["vocab_size"]:
        # transformers looks up the placeholder's row, then overwrites it. As the padding's likeness it is never
        # likelier than padding.
        more = image + 1 - llm["vocab_size"]
        for name in {"model.embed_tokens.weight", "lm_head.weight"} & llama.keys():
            llama[name] = torch.cat([llama[name], llama[name][pad].expand(more, -1)])
        llm = {**llm, "vocab_size": image + 1}
    text = llama_config(llm, end, pad)
    files: dict = tokenizer_as_files(tokenizer)
    files["tokenizer_config.json"] = {
        **json.loads(files["tokenizer_config.json"]),
        "padding_side": "left",
    }  # for generation
    files["generation_config.json"] = generation_config(end, pad)
    files |= processor_files(vision, artifact.config["processor"], REAL_IMAGE)
    return (
        llava_config(text, vision, image, activation),
        llava_tensors(part(artifact.tensors, "vision."), projector, llama),
        files,
    )


def _projection(job, artifact) -> nn.Module:
    """The trained projection, in the code that it was trained with."""
    code = "chain" if "mine" in artifact.manifest["code"].values() else "solution"
    module = chain.use("step6_vlm", code)
    if artifact.manifest["stamp"]["sources"].get("step6_vlm") != fingerprint_of(steps.source_of(module)):
        job.note("Your code of step 6 has changed since the training; what is exported is the projection as it is now.")
    projection = module.Projection(artifact.config["vision"]["hidden_size"], artifact.config["llm"]["hidden_size"])
    try:
        projection.load_state_dict(part(artifact.tensors, "projection."))
    except RuntimeError as error:
        raise WeightsError(
            f"The projection in model_exercise.py is not the one that was trained. Train it again with:  "
            f"{replace(job.place, code=code).command(job.step)}\n{error}"
        ) from error
    return projection


# The parts --------------------------------------------------------------------------------------------------


def part(tensors: dict, prefix: str) -> dict:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def llama_config(config: dict, end: int, pad: int) -> dict:
    """A GPTConfig as Llama's config.json, with both spellings of RoPE's settings (before transformers 5 and
    since).
    """
    return {
        "model_type": "llama",
        **config,
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": config["rope_theta"]},
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def llama_tensors(tensors: dict, config: dict) -> dict:
    """A GPT's state dict as a Llama file has it: the head is left out where it is the embedding."""
    return {
        name: value
        for name, value in tensors.items()
        if not (name == "lm_head.weight" and config["tie_word_embeddings"])
    }


def llava_config(text: dict, vision: dict, image_token_id: int, activation: str, bias: bool = True) -> dict:
    """LLaVA's config.json: layer -2, the class token dropped, a projector of two layers."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {"architectures": ["LlamaForCausalLM"], **text},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_act": "quick_gelu",
            "projection_dim": vision["hidden_size"],
            **vision,
        },
        "image_token_index": image_token_id,
        "image_seq_length": (vision["image_size"] // vision["patch_size"]) ** 2,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": activation,
        "multimodal_projector_bias": bias,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "eos_token_id": text["eos_token_id"],
        "pad_token_id": text["pad_token_id"],
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def llava_tensors(eye: dict, projector: dict, llama: dict) -> dict:
    """The three parts under the names that files on the hub have (older ones too, so any transformers reads
    them).
    """
    return {
        **{f"vision_tower.vision_model.{name}": value for name, value in eye.items()},
        **{f"multi_modal_projector.{name}": value for name, value in projector.items()},
        **{f"language_model.{name}": value for name, value in llama.items()},
    }


ACTIVATIONS = {
    "gelu": nn.functional.gelu,
    "gelu_pytorch_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "mish": nn.functional.mish,
    "linear": lambda x: x,
}


@torch.no_grad()
def llava_projector(projection: nn.Module, vision_dim: int, text_dim: int) -> tuple[str, dict[str, torch.Tensor]]:
    """(activation, weights) of LLaVA's projector that computes what `projection` does, found by trying it on
    numbers.

    LLaVA has Linear(vision_dim, text_dim), an activation, Linear(text_dim, text_dim). Whatever else a
    projection is, or does, is a WeightsError that says so: weights that are bent until they load make another
    model.
    """
    projection(torch.zeros(1, 1, vision_dim))  # lazy layers know their sizes from now on
    layers = [module for module in projection.modules() if isinstance(module, nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    held = {id(parameter) for layer in layers for parameter in layer.parameters()}
    rest = [name for name, parameter in projection.named_parameters() if id(parameter) not in held]
    rest += [name for name, _ in projection.named_buffers()]
    if not rest and sorted(sizes) == sorted([(vision_dim, text_dim), (text_dim, text_dim)]):
        layers = [copy.deepcopy(layer).double() for layer in layers]
        x = 3 * torch.randn(64, vision_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        theirs = copy.deepcopy(projection).double().eval()(x[None])[0]
        for first, second in (layers, layers[::-1]):
            for name, activation in ACTIVATIONS.items():
                if first.in_features == vision_dim and torch.allclose(
                    second(activation(first(x))), theirs, rtol=1e-6, atol=1e-8
                ):
                    return name, {
                        f"linear_{i}.{key}": value.float()
                        for i, layer in ((1, first), (2, second))
                        for key, value in {
                            "weight": layer.weight,
                            "bias": torch.zeros(text_dim) if layer.bias is None else layer.bias,
                        }.items()
                    }
    shown = str(projection).replace("\n", "\n  ")
    raise WeightsError(
        f"Stock LLaVA cannot carry this projection. It has Linear({vision_dim}, {text_dim}), an activation "
        f"({', '.join(ACTIVATIONS)}) and Linear({text_dim}, {text_dim}). Yours"
        + (
            f" has more parameters ({', '.join(rest[:4])})"
            if rest
            else " computes something else with such layers"
            if sorted(sizes) == sorted([(vision_dim, text_dim), (text_dim, text_dim)])
            else " has other layers"
        )
        + f":\n  {shown}\nThe language model in it can be exported from step 5."
    )


def tokenizer_files(tokenizer: dict, config: dict) -> dict:
    """Tokenizer, chat template and generation settings, for a tokenizer.json of step 1."""
    names = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    end, pad = names[config["eos_token_id"]], names[config["pad_token_id"]]
    others = [name for name in names.values() if name not in (end, pad)]
    special = {"eos_token": end, "pad_token": pad, "additional_special_tokens": others}
    return {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config["max_position_embeddings"],
            "padding_side": "left",  # for generation
            "clean_up_tokenization_spaces": False,
            **special,
        },
        "special_tokens_map.json": special,
        "chat_template.jinja": CHAT_TEMPLATE,
        "generation_config.json": generation_config(config["eos_token_id"], config["pad_token_id"]),
    }


def generation_config(eos_token_id: int, pad_token_id: int) -> dict:
    return {
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "do_sample": False,
        "max_new_tokens": MAX_NEW_TOKENS,
    }


def processor_files(vision: dict, pictures: dict, image_token: str) -> dict:
    """How LLaVA's processor prepares a picture, and by how many placeholders it keeps its place."""
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": image_token,
        "patch_size": vision["patch_size"],
        "vision_feature_select_strategy": "default",  # drops the class token ...
        "num_additional_image_tokens": 1,  # ... which has to be counted first
    }
    return {
        "processor_config.json": processor,
        "preprocessor_config.json": {**pictures, "processor_class": "LlavaProcessor"},
    }
