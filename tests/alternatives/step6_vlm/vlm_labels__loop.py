# TODO vlm_labels
def vlm_labels(input_ids, special_tokens):
    labels = torch.full_like(input_ids, IGNORE)
    for row, ids in enumerate(input_ids.tolist()):
        answering = False
        for t, token in enumerate(ids):
            if answering and token not in (special_tokens["<|image|>"], special_tokens["<|pad|>"]):
                labels[row, t] = token
            if token == special_tokens["<|assistant|>"]:
                answering = True
            elif token == special_tokens["<|end|>"]:
                answering = False
    return labels
