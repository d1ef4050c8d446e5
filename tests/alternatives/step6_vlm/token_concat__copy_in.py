def token_concat(image, text):
    B, P, D = image.shape
    if text.shape[0] != B:
        raise ValueError(f"{B} pictures for {text.shape[0]} texts")
    if text.shape[2] != D:
        raise ValueError("widths differ")
    out = image.new_empty(B, P + text.shape[1], D)
    out[:, :P] = image
    out[:, P:] = text
    return out
