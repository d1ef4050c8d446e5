class Block:
    def forward(self, x, angles, mask=None, cache=None):
        def attend(y):
            return self.self_attn(y, angles, mask, cache)

        for norm, part in ((self.input_layernorm, attend), (self.post_attention_layernorm, self.mlp)):
            x = torch.add(part(norm(x)), x)
        return x
