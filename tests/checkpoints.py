"""Small random checkpoints as transformers writes them, and a hub on loopback that serves them."""

import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import torch

EYE = dict(
    image_size=24, patch_size=8, hidden_size=20, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4
)
LLAMA = dict(
    vocab_size=300,
    hidden_size=16,
    intermediate_size=28,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=None,
    eos_token_id=1,
    pad_token_id=0,
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXT = ["what is in the picture? a red circle and two blue squares.\n", "user assistant system how many are there?"] * 5


def shaken(module):
    """The module in eval mode with all its weights random: biases and norms too, which begin at 0 and 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def save_eye(folder, whole=False, sizes=EYE, **more):
    """A CLIPVisionModel (or a CLIPModel with both towers) with its image processor, in a folder; returns the model."""
    import transformers

    torch.manual_seed(6)
    if whole:
        text = dict(
            hidden_size=12,
            intermediate_size=20,
            num_hidden_layers=1,
            num_attention_heads=3,
            vocab_size=40,
            max_position_embeddings=9,
        )
        config = transformers.CLIPConfig(vision_config={**sizes, **more}, text_config=text, projection_dim=16)
        model = shaken(transformers.CLIPModel(config))
    else:
        model = shaken(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**{**sizes, **more})))
    model.save_pretrained(folder)
    side = sizes["image_size"]
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    processor.save_pretrained(folder)
    return model


def tokenizer(template=CHATML, vocab_size=LLAMA["vocab_size"]):
    """A byte-level BPE as SmolLM2's is, with its chat format."""
    import tokenizers
    import transformers

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|pad|>", "<|im_end|>", "<|im_start|>"],
        show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(TEXT, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|pad|>", additional_special_tokens=["<|im_start|>"]
    )
    fast.chat_template = template
    return fast


def save_llama(folder, template=CHATML, shard="5GB", **more):
    """A LlamaForCausalLM with its tokenizer in a folder; returns the model."""
    import transformers

    torch.manual_seed(7)
    model = shaken(transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **more})))
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer(template).save_pretrained(folder)
    return model


def change_config(folder, remove=(), **changes):
    """Set settings in a folder's config.json, and take some out."""
    path = Path(folder) / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if name not in remove}))


class Hub:
    """What a hub on loopback serves, and what it was asked for. cut: how many bytes a download gives before it
    breaks."""

    def __init__(self, folders: dict[str, Path]):
        self.folders, self.asked, self.cut, self.spoil = folders, [], None, False
        self.offers: list[tuple[str, str, Path]] = []  # pull requests: author, title, what is in them

    def offered(self) -> dict:
        return {
            "count": len(self.offers),
            "start": 0,
            "discussions": [
                {
                    "num": i,
                    "title": title,
                    "author": {"name": author},
                    "createdAt": "2023-03-01T00:00:00.000Z",
                    "status": "open",
                    "isPullRequest": True,
                    "repo": {"name": "x/y", "type": "model"},
                }
                for i, (author, title, _) in enumerate(self.offers)
            ],
        }

    def info(self, name: str) -> dict | None:
        if name not in self.folders:
            return None
        siblings = []
        for path in sorted(self.folders[name].iterdir()):
            content = path.read_bytes()
            one = {
                "rfilename": path.name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            if path.suffix == ".safetensors":
                one["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
            siblings.append(one)
        return {
            "id": name,
            "modelId": name,
            "sha": "c0ffee" * 6 + "cafe",
            "siblings": siblings,
            "tags": [],
            "private": False,
            "downloads": 0,
        }


@contextmanager
def hub(folders: dict[str, Path]):
    """(the Hub, its address) while it runs."""
    state = Hub(folders)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            path = self.path.partition("?")[0].strip("/")
            begin = int(self.headers.get("Range", "bytes=0-").partition("=")[2].partition("-")[0])
            state.asked.append((path.rpartition("/")[2], begin))
            if path.endswith("/discussions"):
                return self.answer(json.dumps(state.offered()).encode(), 200, {})
            if "/revision/refs%2Fpr%2F" in path:
                state.folders["/".join(path.split("/")[2:4])] = state.offers[int(path.rpartition("%2F")[2])][2]
            if path.startswith("api/models/"):
                found = state.info("/".join(path.split("/")[2:4]))
                return self.answer(
                    json.dumps(found or {"error": "Repository not found"}).encode(),
                    200 if found else 404,
                    {} if found else {"X-Error-Code": "RepoNotFound"},
                )
            owner, name, _, _, file = path.split("/", 4)
            content = (state.folders[f"{owner}/{name}"] / file).read_bytes()
            if state.spoil and file.endswith(".safetensors"):
                content = bytes(len(content))
            more = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
            self.answer(content[begin:], 206 if begin else 200, more)

        def answer(self, body, status, headers):
            self.send_response(status)
            for key, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(key, str(value))
            self.end_headers()
            whole = state.cut is None or len(body) < state.cut
            self.wfile.write(body if whole else body[: state.cut])
            if not whole:
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
