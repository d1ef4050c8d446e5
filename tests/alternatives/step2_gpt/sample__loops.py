def sample(logits, uniforms, temperature=1.0, top_k=None, top_p=None):
    chosen = []
    for row, u in zip(logits, uniforms):
        p = torch.softmax(row / temperature, dim=0).tolist()
        order = sorted(range(len(p)), key=lambda i: -p[i])
        if top_k is not None:
            order = order[:top_k]
        if top_p is not None:
            total, kept = sum(p[i] for i in order), []
            for i in order:
                kept.append(i)
                if sum(p[j] for j in kept) >= top_p * total:
                    break
            order = kept
        total, running = sum(p[i] for i in order), 0.0
        for i in sorted(order):
            running += p[i] / total
            if running > u.item():
                break
        chosen.append(i)
    return torch.tensor(chosen, device=logits.device)
