# TODO place_tokens
def place_tokens(images, text, places):
    # LLaVA's way: the sentence is cut at the pictures and joined again
    if len(images) != places.shape[0]:
        raise ValueError("one entry for each row of text")
    rows = []
    for pictures, words, at in zip(images, text, places.tolist()):
        tokens = [token for picture in pictures for token in picture.type_as(text)]
        if len(tokens) != sum(at) or pictures.size(2) != text.size(2):
            raise ValueError("places and picture tokens differ")
        rows.append(torch.stack([tokens.pop(0) if here else word for word, here in zip(words, at)]))
    return torch.stack(rows)
