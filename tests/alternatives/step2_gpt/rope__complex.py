def apply_rope(x, angles):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    d = x.shape[-1]
    z = torch.complex(x[..., : d // 2].to(wide), x[..., d // 2 :].to(wide))
    z = z * torch.polar(torch.ones_like(angles, dtype=wide), angles.to(wide))
    return torch.cat([z.real, z.imag], dim=-1).to(x.dtype)
