# TODO place_tokens
def place_tokens(images, text, places):
    counts = torch.tensor([pictures.shape[0] * pictures.shape[1] for pictures in images], device=places.device)
    if len(counts) != len(places) or (counts != places.sum(dim=-1)).any():
        raise ValueError("the places of some row are not as many as its picture tokens")
    if {pictures.shape[-1] for pictures in images} != {text.shape[-1]}:
        raise ValueError("pictures and text differ in width")
    flat = torch.cat([pictures.reshape(-1, text.shape[-1]) for pictures in images]).to(dtype=text.dtype)
    return text.index_put(places.nonzero(as_tuple=True), flat)
