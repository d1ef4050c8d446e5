# TODO place_tokens
def place_tokens(images, text, places):
    if len(images) != len(text):
        raise ValueError(f"pictures for {len(images)} rows, text in {len(text)}")
    rows = []
    for pictures, words, at in zip(images, text, places):
        tokens = pictures.reshape(-1, pictures.shape[-1])
        if len(tokens) != int(at.sum()) or tokens.shape[-1] != words.shape[-1]:
            raise ValueError(f"{int(at.sum())} places for {list(tokens.shape)}")
        row = words.clone()
        row[at] = tokens.to(words.dtype)
        rows.append(row)
    return torch.stack(rows)
