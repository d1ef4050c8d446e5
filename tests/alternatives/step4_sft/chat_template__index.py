def chat_template(messages, encode, special_tokens, add_generation_prompt=False):
    user, assistant, end = (special_tokens[f"<|{name}|>"] for name in ("user", "assistant", "end"))
    ids = []
    for i in range(len(messages)):
        role, content = messages[i]["role"], messages[i]["content"]
        try:
            ids.append({"user": user, "assistant": assistant}[role])
        except KeyError:
            raise ValueError(f"role {role!r}") from None
        for token in encode(content):
            ids.append(token)
        ids = ids + [end] if role == "assistant" else ids
    return ids if not add_generation_prompt else [*ids, assistant]
