def rms_norm(x, weight, eps):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = []
    for row in x.reshape(-1, x.shape[-1]).to(wide):
        mean_square = sum(number * number for number in row) / len(row)
        rows.append(row / (mean_square + eps) ** 0.5 * weight.to(wide))
    return torch.stack(rows).reshape(x.shape).to(x.dtype)
