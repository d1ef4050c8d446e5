class Attention:
    def forward(self, x, angles, mask=None, cache=None):
        q, k, v = (self.heads(proj(x)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = apply_rope(q, angles), apply_rope(k, angles)
        k, v = (k, v) if cache is None else cache.extend(self.layer, k, v)
        B, K, S, d = k.shape
        groups = self.num_heads // K
        k = k[:, :, None].expand(B, K, groups, S, d).reshape(B, K * groups, S, d)
        v = v[:, :, None].expand(B, K, groups, S, d).reshape(B, K * groups, S, d)
        out = attention(q, k, v, mask)
        return self.o_proj(torch.cat([out[:, head] for head in range(self.num_heads)], dim=-1))

    def heads(self, x):
        return torch.stack(x.split(self.head_dim, dim=-1), dim=1)
