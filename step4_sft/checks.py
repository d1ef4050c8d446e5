"""What is asked of the TODOs of this lesson, and with which inputs.

No tokenizer is needed: a random table of bytes stands in for one, and special tokens get random ids, some of
them smaller than those of the text.
"""

import torch

from course.checking import Check, Problem, attempt, between, compare

IGNORE = -100
SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>")
WORDS = (
    "red",
    "blue",
    "a star",
    "  two  ",
    "Where is it?",
    "at the top\n",
    "ä",
    "Is it <|end|> yet?",
    "<|user|> Say yes.",
    "<|assistant|>",
    "",
)


def numbers(g: torch.Generator, count: int, low: int, high: int) -> list[int]:
    """Different numbers from low to high."""
    return (low + torch.randperm(high + 1 - low, generator=g)[:count]).tolist()


def spelled(ids: list[int], words: dict[int, str]) -> str:
    """Ids in the words that they stand for."""
    return " ".join(words.get(token, f"?{token}") for token in ids)


# chat_template


def chat_template_cases(g):
    turns = between(g, 2, 3)
    shapes = [
        ["user", "assistant"] * turns,
        ["user", "assistant"] * turns + ["user"],
        ["user", "user", "assistant", "assistant"],
        [],
        ["user"],
        ["user", "assistant"],
        ["user", "system"],
        ["system", "user"],
        ["user", "image"],
        ["tool"],
    ]
    for number, roles in enumerate(shapes):
        ids = numbers(g, 256 + len(SPECIAL), 0, 400)
        if number in (0, 1):  # a role's marker may have the id 0
            ids = [401 if token == 0 else token for token in ids]
            ids[256 + 1 + number] = 0
        special = dict(zip(SPECIAL, ids[256:]))
        special = {SPECIAL[i]: special[SPECIAL[i]] for i in torch.randperm(len(SPECIAL), generator=g).tolist()}
        contents = [WORDS[i] for i in numbers(g, len(roles), 0, len(WORDS) - 1)]
        if number == 1:  # somebody who types special tokens
            contents[0], contents[1] = WORDS[between(g, 7, 9)], WORDS[between(g, 7, 9)]
        if number == 2:  # spaces and line ends belong to what is said
            contents[0], contents[-1] = WORDS[3], WORDS[5]
        yield {
            "messages": [{"role": role, "content": text} for role, text in zip(roles, contents)],
            "table": ids[:256],
            "special_tokens": special,
            "add_generation_prompt": number in (1, 3, 5),
        }


def call_chat_template(module, case):
    def encode(text):
        return [case["table"][byte] for byte in text.encode()]

    def call():
        return module.chat_template(case["messages"], encode, case["special_tokens"], **prompt)

    prompt = {"add_generation_prompt": True} if case["add_generation_prompt"] else {}
    if all(message["role"] in ("user", "assistant") for message in case["messages"]):
        return call()
    _, error, text = attempt(call)
    return {"raised": error or "nothing", "says": text[:200]}


def judge_chat_template(case, answer, expected):
    if isinstance(expected, dict):
        role = next(message["role"] for message in case["messages"] if message["role"] not in ("user", "assistant"))
        if answer["raised"] == "ValueError":
            return (
                []
                if role in answer["says"]
                else [
                    Problem(
                        "role not named",
                        f"the ValueError does not name the role that is wrong, {role}",
                        f"a message with the word {role}",
                        repr(answer["says"]),
                    )
                ]
            )
        return [
            Problem(
                "unknown role",
                f"the role {role} is neither user nor assistant: a ValueError should say so",
                "ValueError",
                f"{answer['raised']} is raised",
            )
        ]
    if answer == expected:
        return []
    if not isinstance(answer, list) or not all(type(token) is int for token in answer):
        return compare(answer, expected) or [Problem("form", "the answer is not a list of ids")]
    words = {case["table"][byte]: repr(bytes([byte]))[2:-1].replace(" ", "␣") for byte in range(256)}
    words |= {token: name for name, token in case["special_tokens"].items()}
    same = [got == wanted for got, wanted in zip(answer, expected)]
    at = same.index(False) if False in same else len(same)

    def here(ids):
        return spelled(ids[at : at + 1], words) or "nothing"

    return [
        Problem(
            "ids",
            f"up to id {at} all is well; then {here(expected)} is expected, and there is {here(answer)}",
            spelled(expected, words),
            spelled(answer, words),
        )
    ]


def shows_chat_template(case):
    prompt = ", add_generation_prompt=True" if case["add_generation_prompt"] else ""
    return f"chat_template({case['messages']}, encode, special_tokens{prompt})"


# loss_mask


def loss_mask_cases(g):
    for kind in ("turns", "cut off", "prompt", "image", "two replies", "no reply", "prompt at once"):
        specials, ids = dict(zip(SPECIAL, numbers(g, len(SPECIAL), 0, 30))), []
        for turn in range(between(g, 2, 3)):
            for role in ("<|user|>", "<|assistant|>"):
                ids.append(specials[role])
                if kind == "image" and turn == 0 and role == "<|user|>":
                    ids += [specials["<|image|>"]] * 3
                ids += numbers(g, between(g, 2, 5), 31, 60)
            ids.append(specials["<|end|>"])
        specials = {name: specials[name] for name in sorted(specials)}  # in another order than SPECIAL
        if kind == "two replies":
            ids += [specials["<|assistant|>"], 40, 41 if 0 in specials.values() else 0, 42, specials["<|end|>"]]
        elif kind == "no reply":
            ids = [specials["<|user|>"], 40, 41]
        elif kind == "prompt at once":
            ids += [specials["<|assistant|>"]]
        if kind == "cut off":  # a row that was too long, so that the last reply has no end
            del ids[-2:]
        elif kind == "prompt":
            ids += [specials["<|user|>"], 61, 62, specials["<|assistant|>"]]
        words = {token: f"w{token}" for token in ids} | {token: name for name, token in specials.items()}
        yield {"ids": ids, "special_tokens": specials, "words": words}


def call_loss_mask(module, case):
    return module.loss_mask(case["ids"], case["special_tokens"])


def marked(ids, labels, words):
    """The row as text, with what is learned in brackets."""
    return " ".join(words[t] if label == IGNORE else f"[{words[t]}]" for t, label in zip(ids, labels))


def place(case, expected, t):
    """What stands at a place of a row, as part of a conversation."""
    special = {token: name for name, token in case["special_tokens"].items()}
    token = case["ids"][t]
    if token in special:
        return special[token]
    return "a reply's word" if expected[t] != IGNORE else "a user's word"


def judge_loss_mask(case, answer, expected):
    if answer == expected:
        return []
    if isinstance(answer, list) and len(answer) != len(expected):
        name = "one label less" if len(answer) == len(expected) - 1 else "number of labels"
        return [
            Problem(
                name,
                f"there are {len(answer)} labels for {len(expected)} ids: each id has its label, at its own place",
                f"{len(expected)} labels",
                f"{len(answer)} labels",
            )
        ]
    form = not isinstance(answer, list) or {type(x) for x in answer} != {int}
    if form:
        return compare(answer, expected)
    ids, words, problems = case["ids"], case["words"], {}
    shown = marked(ids, expected, words), marked(ids, answer, words)
    for t, (label, wanted, token) in enumerate(zip(answer, expected, ids)):
        where = place(case, expected, t)
        if label not in (IGNORE, token):
            name, text = (
                ("alignment" if label in words else "value"),
                (
                    f"at place {t} the row has {words[token]}, but its label is {words.get(label, label)}: "
                    "a label is the id at its own place, or IGNORE"
                ),
            )
        elif label != IGNORE and wanted == IGNORE:
            name = f"learned: {where}"
            text = f"{where} is learned (in brackets), at place {t}, but should be IGNORE"
        elif label == IGNORE and wanted != IGNORE:
            name = f"not learned: {where}"
            text = f"{where} is IGNORE at place {t}, but should be learned (in brackets)"
        else:
            continue
        problems.setdefault(name, Problem(name, text, *shown))
    return list(problems.values())


def shows_loss_mask(case):
    return f"loss_mask(ids, special_tokens) with the row {spelled(case['ids'], case['words'])}"


# collate


def collate_cases(g):
    for kind in ("right", "left", "right, labels", "left, labels", "defaults", "same length"):
        B, longest = between(g, 3, 4), between(g, 7, 9)
        lengths = [longest, longest - 2, *(between(g, 2, longest - 1) for _ in range(B - 2))]
        lengths = [lengths[i] for i in torch.randperm(B, generator=g)]
        if kind == "same length":
            lengths = [longest] * B
        pad = 0 if kind == "defaults" else between(g, 3, 9)
        rows = [numbers(g, length, 10, 60) for length in lengths]
        rows[0][between(g, 0, lengths[0] - 1)] = pad  # inside a row the pad id is a token like any other
        labels = None
        if "labels" in kind or kind == "defaults":
            learned = [torch.rand(length, generator=g) < 0.6 for length in lengths]
            labels = [[t if yes else IGNORE for t, yes in zip(row, mask)] for row, mask in zip(rows, learned)]
        options = {} if kind == "defaults" else {"pad_token_id": pad, "padding_side": kind.partition(",")[0]}
        if kind == "same length":
            options["padding_side"] = "left"
        yield {"rows": rows, "labels": labels, "options": options}


def call_collate(module, case):
    given = () if case["labels"] is None else (case["labels"],)
    return module.collate(tuple(case["rows"]), *map(tuple, given), **case["options"])


def shows_collate(case):
    labels = ", labels" if case["labels"] is not None else ""
    options = "".join(f", {name}={value!r}" for name, value in case["options"].items())
    return f"collate(rows of {', '.join(str(len(row)) for row in case['rows'])} ids{labels}{options})"


CHECKS = [
    Check(
        id="chat_template",
        asks="turn a conversation into ids that show who speaks and where a reply ends",
        call=call_chat_template,
        cases=chat_template_cases,
        judge=judge_chat_template,
        shows=shows_chat_template,
        hints=(
            "What has to stand in the row so that a model can tell a question from an answer? And what does "
            "it have to write itself, so that whoever waits knows it is done?",
            "user: <|user|> text. assistant: <|assistant|> text <|end|>. With a generation prompt one more "
            "<|assistant|> at the end. Special tokens come from special_tokens as one id each, never from "
            "encode.",
            "ids = an empty list\n"
            "for each message: refuse a role that is neither user nor assistant with a ValueError\n"
            "    add the one id of the role's token, then the ids of the content\n"
            "    after an assistant's content add the id of <|end|>\n"
            "if a generation prompt is wanted: add the id of <|assistant|>",
        ),
        why=(
            "The markers are ids that text cannot produce, so who speaks is beyond doubt. Real "
            "templates do the same with other names (ChatML has <|im_start|>); a model asked in "
            "another template than its own gets noticeably worse, which is why templates are "
            "shipped with tokenizers."
        ),
    ),
    Check(
        id="loss_mask",
        asks="the assistant's words and their <|end|> are their own labels, everything else becomes IGNORE",
        call=call_loss_mask,
        cases=loss_mask_cases,
        judge=judge_loss_mask,
        shows=shows_loss_mask,
        hints=(
            "Read the row from left to right with one bit of memory: is the assistant speaking? Which tokens "
            "switch it on and off, and does the switch itself count?",
            "labels[t] = ids[t] if an <|assistant|> stands before t with no <|end|> between the two, else "
            "IGNORE. So <|assistant|> itself is not learned, and <|end|> is.",
            "replying = no\n"
            "for each id: the label is the id if replying, else IGNORE   # decide before you look at the id\n"
            "    after that: <|assistant|> means replying from now on, <|end|> means no longer",
        ),
        why=(
            "One flag while walking along is all the state there is, and it works for any number "
            "of turns. The end token is learned, or the model would not know when to stop; the "
            "assistant's marker is not, because the template writes it."
        ),
    ),
    Check(
        id="collate",
        asks="rows of different lengths become one batch, with a mask that says what is padding",
        call=call_collate,
        cases=collate_cases,
        shows=shows_collate,
        hints=(
            "How long is the batch? What stands at the places that a shorter row does not fill, in each of "
            "the three tensors?",
            "T = the longest row. A row of n ids gets T - n times pad_token_id, its mask n ones and T - n "
            "zeros, its labels T - n times IGNORE: all three on the same side. Padding is known by lengths, "
            "not by looking for pad_token_id.",
            "T = length of the longest row\n"
            "for each row: filler = T - its length\n"
            "    ids: the row and filler times pad_token_id; mask: ones, zeros; labels: its own and IGNORE\n"
            "    with padding_side 'left' the filler comes first\n"
            "make each list of rows a tensor; labels only if there were any",
        ),
        why=(
            "One function pads on either side. Rows are filled up to the longest of the batch, "
            "not to a fixed length, so batches of rows of like length waste little. Labels are "
            "filled with -100 and not with the pad id, because a pad token may be a real one "
            "elsewhere."
        ),
    ),
]
