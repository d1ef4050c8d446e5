# TODO vlm_labels
def vlm_labels(input_ids, special_tokens):
    # each marker opens or closes; the state at a token is that of the last marker before it
    opens = input_ids.eq(special_tokens["<|assistant|>"])
    marker = opens | input_ids.eq(special_tokens["<|end|>"])
    number = marker.cumsum(1) - marker.long()  # markers before each token
    states = torch.zeros_like(input_ids).scatter_add(1, marker.cumsum(1) * marker, (opens & marker).long())
    state = states.scatter(1, torch.zeros_like(number[:, :1]), 0).gather(1, number) == 1
    labels = torch.where(state, input_ids, torch.full_like(input_ids, IGNORE))
    for name in ("<|image|>", "<|pad|>"):
        labels = labels.masked_fill(input_ids == special_tokens[name], IGNORE)
    return labels
