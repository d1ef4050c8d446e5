def token_concat(image, text):
    try:
        rows = [torch.vstack([picture, words]) for picture, words in zip(image, text, strict=True)]
    except RuntimeError as error:
        raise ValueError("picture and text do not fit") from error
    return torch.stack(rows)
