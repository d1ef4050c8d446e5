def apply_rope(x, angles):
    half = x.shape[-1] // 2
    c, s = torch.cos(angles).to(x), torch.sin(angles).to(x)
    rotation = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)  # [B, 1, T, d/2, 2, 2]
    points = torch.stack([x[..., :half], x[..., half:]], -1)[..., None]  # [B, H, T, d/2, 2, 1]
    turned = (rotation @ points)[..., 0]
    return torch.cat([turned[..., 0], turned[..., 1]], -1)
