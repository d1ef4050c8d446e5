"""A checkpoint's own tokenizer and chat template, behind the interface that course.training.chat needs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course.training.chat import Chat
from course.weights.files import WeightsError

# For a checkpoint without a template of its own, a base model: that of LLaVA-1.5 (from Vicuna).
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {{ message['content'] }} ASSISTANT:"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
IGNORE = -100  # label of positions that the loss leaves out


def tokenizer_as_files(tokenizer: Any) -> dict[str, str]:
    """The files that make a tokenizer of transformers, its chat template among them: name -> content."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}


class FolderTokenizer:
    """The tokenizer in a checkpoint folder, used as step 1's is. special_tokens holds the two that Chat asks
    for.
    """

    def __init__(self, folder: Path):
        from transformers import AutoTokenizer

        if not (Path(folder) / "tokenizer.json").exists():
            raise WeightsError(
                f"{folder} has no tokenizer.json. Save it with transformers' AutoTokenizer, and name that folder."
            )
        try:
            self.hf = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # each format fails in its own way
            raise WeightsError(f"The tokenizer in {folder} cannot be read: {error}") from error
        self.vocab_size = len(self.hf)
        self.plain = not self.hf.chat_template
        if self.plain:
            begins = self.hf.bos_token is not None and self.hf("")["input_ids"][:1] == [self.hf.bos_token_id]
            self.hf.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN
        end = self._end()
        pad = self.hf.pad_token_id
        self.special_tokens = {"<|end|>": end, "<|pad|>": end if pad is None else pad}

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, in which nothing is special."""
        return self.hf.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for, without special tokens."""
        return self.hf.decode(ids, skip_special_tokens=True)

    def render(self, messages: Sequence[dict], add_generation_prompt: bool = False) -> str:
        """A conversation as the checkpoint's chat template writes it. Raises ValueError for what it does not
        allow.
        """
        for message in messages:
            if found := [token for token in self.hf.all_special_tokens if token in message["content"]]:
                raise ValueError(f"a message says {found[0]!r}, which is a special token of this checkpoint")
        try:
            return self.hf.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # jinja's, and what the template itself raises
            raise ValueError(f"the chat template refuses this conversation: {error}") from error

    def pieces(self, messages: Sequence[dict], add_generation_prompt: bool = False) -> list[tuple[list[int], bool]]:
        """A conversation cut where turns begin and end: (ids, whether the assistant says them), in order."""
        text, pieces, done = self.render(messages, add_generation_prompt), [], 0
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                before, after = self.render(messages[:i], True), self.render(messages[: i + 1])
                if not after.startswith(before) or not text.startswith(after):
                    raise ValueError(
                        "this chat template rewrites what was said before, so that no reply can be told apart"
                    )
                pieces += [(text[done : len(before)], False), (text[len(before) : len(after)], True)]
                done = len(after)
        pieces.append((text[done:], False))
        return [(self.hf.encode(part, add_special_tokens=False), said) for part, said in pieces if part]

    def _end(self) -> int:
        """The special token that ends a reply: the first one after the words of one."""
        try:
            pieces = self.pieces([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
        except ValueError as error:
            raise WeightsError(f"{self.hf.name_or_path}: {error}.") from error
        for token in next(ids for ids, said in pieces if said):
            if token in self.hf.all_special_ids:
                return token
        raise WeightsError(
            f"{self.hf.name_or_path}: its chat template ends no reply with a special token, so no reply would end."
        )


class FolderChat(Chat):
    """A Chat that speaks as the checkpoint was taught to; of step 4's code it uses `collate`.

    limit: rows to learn from are cut off after so many tokens (None: never).
    """

    limit: int | None = None

    def ids(self, messages: Sequence[dict], add_generation_prompt: bool = False) -> list[int]:
        return [i for ids, _ in self.tokenizer.pieces(messages, add_generation_prompt) for i in ids]

    def row(self, messages: Sequence[dict]) -> tuple[list[int], list[int]]:
        """Ids and labels: learned are the words of each reply and the token that ends it."""
        row, labels = [], []
        for ids, said in self.tokenizer.pieces(messages):
            learned = ids.index(self.end) + 1 if said and self.end in ids else len(ids) if said else 0
            row += ids
            labels += ids[:learned] + [IGNORE] * (len(ids) - learned)
        return row[: self.limit], labels[: self.limit]
