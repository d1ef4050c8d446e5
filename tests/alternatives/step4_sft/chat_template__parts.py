def chat_template(messages, encode, special_tokens, add_generation_prompt=False):
    parts = []
    for message in messages:
        if message["role"] == "user":
            parts.append([special_tokens["<|user|>"]] + encode(message["content"]))
        elif message["role"] == "assistant":
            words = encode(message["content"])
            parts.append([special_tokens["<|assistant|>"]] + words + [special_tokens["<|end|>"]])
        else:
            raise ValueError(message["role"])
    return sum(parts, []) + [special_tokens["<|assistant|>"]] * bool(add_generation_prompt)
