# TODO vlm_labels
def vlm_labels(input_ids, special_tokens):
    labels = input_ids.clone()
    answering = torch.zeros_like(input_ids[:, 0], dtype=torch.bool)
    for t in range(input_ids.shape[1]):
        token = input_ids[:, t]
        nothing = (token == special_tokens["<|image|>"]) | (token == special_tokens["<|pad|>"])
        labels[:, t].masked_fill_(~answering | nothing, IGNORE)
        answering = (answering | (token == special_tokens["<|assistant|>"])) & (token != special_tokens["<|end|>"])
    return labels
