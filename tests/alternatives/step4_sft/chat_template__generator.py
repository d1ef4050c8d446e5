import itertools


def pieces(messages, encode, special_tokens, add_generation_prompt):
    begin = {"user": "<|user|>", "assistant": "<|assistant|>"}
    after = {"user": (), "assistant": (special_tokens["<|end|>"],)}
    for message in messages:
        yield (special_tokens[begin[message["role"]]],)
        yield encode(message["content"])
        yield after[message["role"]]
    if add_generation_prompt:
        yield (special_tokens["<|assistant|>"],)


def chat_template(messages, encode, special_tokens, add_generation_prompt=False):
    for message in messages:
        if message["role"] not in {"user", "assistant"}:
            raise ValueError(f"no such role: {message['role']}")
    return list(itertools.chain.from_iterable(pieces(messages, encode, special_tokens, add_generation_prompt)))
