"""Known wrong answers to the TODOs of this lesson, and what to say to whoever gave them."""

from course.checking import Mistake

ADD = 'ids += [special_tokens[f"<|{role}|>"], *encode(message["content"])]'
TEMPLATE = """    for message in messages:
        role = message["role"]
        if role not in ("user", "assistant"):
            raise ValueError(f"unknown role {role!r}; there are user and assistant")
        ids += [special_tokens[f"<|{role}|>"], *encode(message["content"])]
        if role == "assistant":
            ids.append(special_tokens["<|end|>"])
    if add_generation_prompt:
        ids.append(special_tokens["<|assistant|>"])
    return ids
"""
CLOSE = '        if role == "assistant":\n            ids.append(special_tokens["<|end|>"])\n'
LEARN = """        labels.append(token if replying else IGNORE)
        if token == special_tokens["<|assistant|>"]:
            replying = True
        elif token == special_tokens["<|end|>"]:
            replying = False
    return labels"""
MASK = "pad([[1] * len(row) for row in rows], 0)"
SHIFTED = (
    "You shift the labels to the left, and the model shifts them once more: it would learn to guess the "
    "token after the next. labels[t] belongs to ids[t]."
)

MISTAKES = {
    "chat_template": [
        Mistake(
            "role after the text",
            ADD,
            'ids += [*encode(message["content"]), special_tokens[f"<|{role}|>"]]',
            "The role's token comes after the text. A model reads from left to right: it has to know "
            "who speaks before the first word.",
        ),
        Mistake(
            "no end",
            CLOSE,
            "",
            "No reply ends. A model that never sees <|end|> in training never writes it, and talks on "
            "until it is cut off.",
        ),
        Mistake(
            "end after everybody",
            CLOSE,
            CLOSE.replace('role == "assistant"', "role"),
            "You close the user's messages too. In this template <|end|> belongs to replies alone: the "
            "loss mask relies on it, and so does whoever waits for the end of a reply.",
        ),
        Mistake(
            "always the model's turn",
            "if add_generation_prompt:",
            "if True:",
            "The generation prompt is always there. In training every conversation would then end with "
            "a reply that has no words.",
        ),
        Mistake(
            "never the model's turn",
            "if add_generation_prompt:",
            "if False:",
            "add_generation_prompt does nothing. Without the last <|assistant|> the model does not know "
            "that it is to answer: it may go on with the user's question.",
        ),
        Mistake(
            "prompt closed",
            'ids.append(special_tokens["<|assistant|>"])',
            'ids += [special_tokens["<|assistant|>"], special_tokens["<|end|>"]]',
            "After the generation prompt you close the reply that the model is about to write.",
        ),
        Mistake(
            "template typed as characters",
            ADD,
            'ids += encode(f"<|{role}|>" + message["content"])',
            "You encode the name of the role's token as text: that is a dozen ids, which any user could "
            "type too. Take its one id from special_tokens.",
        ),
        Mistake(
            "end typed as characters",
            'ids.append(special_tokens["<|end|>"])',
            'ids += encode("<|end|>")',
            "You encode <|end|> as text: that is a handful of ids. Take its one id from special_tokens.",
        ),
        Mistake(
            "one long string",
            TEMPLATE,
            """    text = ""
    for message in messages:
        role = message["role"]
        if role not in ("user", "assistant"):
            raise ValueError(f"unknown role {role!r}; there are user and assistant")
        text += f"<|{role}|>" + message["content"] + ("<|end|>" if role == "assistant" else "")
    return encode(text + ("<|assistant|>" if add_generation_prompt else ""))
""",
            "You build one long string and encode it. encode never makes a special token, so the "
            "markers become ordinary characters, which any user could type too. Encode the contents "
            "alone, and put the markers' ids between them.",
        ),
        Mistake(
            "lists inside the list",
            ADD,
            'ids += [special_tokens[f"<|{role}|>"], encode(message["content"])]',
            "Each text stands in the row as a list of its own. One flat list of ids is asked for: `+=` "
            "joins two lists, append puts one into the other.",
        ),
        Mistake(
            "special tokens found in the text",
            ADD,
            """ids.append(special_tokens[f"<|{role}|>"])
        import re
        for part in re.split("(" + "|".join(map(re.escape, special_tokens)) + ")", message["content"]):
            ids += [special_tokens[part]] if part in special_tokens else encode(part)""",
            "You look for special tokens in what people write. Then a user who types <|assistant|> can "
            "put words into the model's mouth. Contents are text, whatever they contain.",
        ),
        Mistake(
            "text stripped",
            'encode(message["content"])]',
            'encode(message["content"].strip())]',
            "You strip the contents. What somebody said goes in as it is: spaces and line ends may mean "
            "something, in code for instance.",
        ),
        Mistake(
            "space before the text",
            'encode(message["content"])]',
            'encode(" " + message["content"])]',
            "You put a space before each content. The template of this course has none, and a model "
            "that was trained without it would read other tokens than it knows.",
        ),
        Mistake(
            "line ends between messages",
            ADD,
            'ids += [special_tokens[f"<|{role}|>"], *encode(message["content"] + "\\n")]',
            "You add line ends. Some templates have them (ChatML does); this one has nothing but its special tokens.",
        ),
        Mistake(
            "unknown roles pass",
            'if role not in ("user", "assistant"):',
            "if not role:",
            "A role that the template does not know goes through, or fails with an error that explains "
            "nothing. Raise a ValueError that names it.",
        ),
        Mistake(
            "role not named",
            'f"unknown role {role!r}; there are user and assistant"',
            '"unknown role"',
            "The ValueError does not say which role it met. Whoever reads it wants to know: put the "
            "role into the message.",
        ),
    ],
    "loss_mask": [
        Mistake(
            "everything learned",
            "token if replying else IGNORE",
            "token",
            "Every token is learned, the user's too. The model would learn to ask questions, and spend "
            "most of its effort on it.",
        ),
        Mistake(
            "all but the markers",
            "token if replying else IGNORE",
            "token if token not in special_tokens.values() else IGNORE",
            "You leave out the special tokens, but the prompt is learned. The loss should see the "
            "replies alone, and the <|end|> after them.",
        ),
        Mistake(
            "end not learned",
            LEARN,
            LEARN.replace("if replying", 'if replying and token != special_tokens["<|end|>"]'),
            "<|end|> is not learned. Then nothing teaches the model to stop: it is the one special "
            "token that the model itself has to write.",
        ),
        Mistake(
            "marker learned",
            LEARN,
            LEARN.replace("if replying", 'if replying or token == special_tokens["<|assistant|>"]'),
            "<|assistant|> is learned. The template writes it, never the model: a model that learns it "
            "would learn to begin a reply of its own after each question, whoever is to speak.",
        ),
        Mistake(
            "off by one",
            LEARN,
            """        if token == special_tokens["<|assistant|>"]:
            replying = True
        elif token == special_tokens["<|end|>"]:
            replying = False
        labels.append(token if replying else IGNORE)
    return labels""",
            "You switch before you write the label, so <|assistant|> is learned and <|end|> is not: the "
            "other way round is right. The model writes the end of a reply, and never its beginning.",
        ),
        Mistake(
            "mask inverted",
            "token if replying else IGNORE",
            "IGNORE if replying else token",
            "It is the wrong way round: you learn the prompts and ignore the replies.",
        ),
        Mistake(
            "last reply alone",
            LEARN,
            """        if token == special_tokens["<|assistant|>"]:
            labels = [IGNORE] * len(labels)
"""
            + LEARN,
            "Only the last reply is learned. All of them stand in the row and have been computed: learn every turn.",
        ),
        Mistake(
            "first reply alone",
            "            replying = True\n",
            "            replying = token not in ids[: len(labels) - 1]\n",
            "Only the first reply is learned. All of them stand in the row and have been computed: learn every turn.",
        ),
        Mistake(
            "everything after the first marker",
            "replying = False\n",
            "pass\n",
            "From the first reply on everything is learned, later questions too. <|end|> ends a reply.",
        ),
        Mistake(
            "first word not learned",
            "    return labels",
            """    for t, token in enumerate(ids[:-1]):
        if token == special_tokens["<|assistant|>"]:
            labels[t + 1] = IGNORE
    return labels""",
            "The first word of each reply is not learned. <|assistant|> is not, since the template writes it; what "
            "comes right after it is.",
        ),
        Mistake(
            "last word not learned",
            "    return labels",
            """    for t, token in enumerate(ids[1:]):
        if token == special_tokens["<|end|>"]:
            labels[t] = IGNORE
    return labels""",
            "The word before <|end|> is not learned. The reply goes up to <|end|>, and <|end|> belongs to it.",
        ),
        Mistake(
            "until the next user",
            LEARN,
            LEARN.replace("<|end|>", "<|user|>"),
            "You learn until <|user|> comes. A reply ends at <|end|>: another <|assistant|> may follow, and a marker is "
            "never learned.",
        ),
        Mistake("labels shifted here", "    return labels", "    return [*labels[1:], IGNORE]", SHIFTED),
        Mistake("labels shifted and shorter", "    return labels", "    return labels[1:]", SHIFTED),
        Mistake(
            "a mask of 0 and 1",
            "token if replying else IGNORE",
            "1 if replying else 0",
            "These are zeros and ones. Labels are ids: the token to be learned, or IGNORE. A label of 0 "
            "or 1 would teach the model the tokens 0 and 1.",
        ),
        Mistake(
            "-1 for IGNORE",
            "token if replying else IGNORE",
            "token if replying else -1",
            "What is left out is marked with something other than IGNORE (-100), the value that the "
            "model's loss leaves out.",
        ),
        Mistake(
            "an end looked for that is not there",
            "    return labels",
            """    labels, at = [IGNORE] * len(ids), 0
    while special_tokens["<|assistant|>"] in ids[at:]:
        start = ids.index(special_tokens["<|assistant|>"], at) + 1
        at = ids.index(special_tokens["<|end|>"], start) + 1
        labels[start:at] = ids[start:at]
    return labels""",
            "index() raises an error where it finds nothing, and the last reply of a row need not have "
            "an <|end|>: it may have been cut off.",
        ),
        Mistake(
            "replies without an end left out",
            "    return labels",
            """    if replying:
        last = max(t for t, token in enumerate(ids) if token == special_tokens["<|assistant|>"])
        labels[last:] = [IGNORE] * (len(ids) - last)
    return labels""",
            "A reply that was cut off, and so has no <|end|>, is left out. Its words are still the assistant's.",
        ),
    ],
    "collate": [
        Mistake(
            "padding on the wrong side",
            'if padding_side == "left":',
            'if padding_side == "right":',
            "The padding is on the other side than asked.",
        ),
        Mistake(
            "always on the right",
            'if padding_side == "left":',
            "if False:",
            "padding_side does nothing. For generation the padding is on the left: the next token of "
            "every row is then at the same place.",
        ),
        Mistake(
            "always on the left",
            'if padding_side == "left":',
            "if True:",
            "padding_side does nothing. Training pads on the right, where no token looks.",
        ),
        Mistake(
            "mask inverted",
            MASK,
            "pad([[0] * len(row) for row in rows], 1)",
            "The mask is the wrong way round: 1 means a token, 0 means padding.",
        ),
        Mistake(
            "mask padded on the right",
            MASK,
            "torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])",
            "The mask is padded on the right when the ids are padded on the left. All three tensors move together.",
        ),
        Mistake(
            "mask without padding",
            MASK,
            "torch.ones(len(rows), length, dtype=torch.long)",
            "The mask is 1 everywhere, so padding would be looked at.",
        ),
        Mistake(
            "mask by id",
            MASK,
            "(pad(rows, pad_token_id) != pad_token_id).long()",
            "You find the padding by its id. A row may hold that id as a token of its own (many models "
            "pad with the end token): only the lengths tell.",
        ),
        Mistake(
            "mask of booleans",
            MASK,
            MASK + ".bool()",
            "The mask is of dtype bool. Asked for is int64, ones and zeros, as Hugging Face's models have it.",
        ),
        Mistake(
            "labels filled with the pad id",
            "pad(labels, IGNORE)",
            "pad(labels, pad_token_id)",
            "The labels are filled with pad_token_id: the model would learn to write padding. Fill them with IGNORE.",
        ),
        Mistake(
            "labels filled with 0",
            "pad(labels, IGNORE)",
            "pad(labels, 0)",
            "The labels are filled with 0, which is a token: the model would learn to write it. Fill them with IGNORE.",
        ),
        Mistake(
            "labels masked by id",
            "pad(labels, IGNORE)",
            "pad(rows, IGNORE)",
            "The labels are the rows themselves. What the loss mask has left out is lost that way: fill "
            "up the labels that you were given.",
        ),
        Mistake(
            "labels padded on the right",
            "pad(labels, IGNORE)",
            "torch.tensor([[*row, *[IGNORE] * (length - len(row))] for row in labels])",
            "The labels are padded on the right when the ids are padded on the left. All three tensors move together.",
        ),
        Mistake(
            "cut to the shortest",
            "filler = [[value] * (length - len(sequence)) for sequence in sequences]",
            "return torch.tensor([sequence[: min(map(len, rows))] for sequence in sequences])",
            "Rows are cut to the length of the shortest: words are lost, and with them most of the "
            "replies' ends. Fill the shorter ones up.",
        ),
        Mistake(
            "pad id ignored",
            "pad(rows, pad_token_id)",
            "pad(rows, 0)",
            "The rows are filled with 0 whatever pad_token_id says.",
        ),
        Mistake(
            "labels always there",
            "    if labels is not None:\n",
            "    labels = labels or rows\n    if True:\n",
            "There are labels in the batch although none were given. A prompt has none.",
        ),
    ],
}
