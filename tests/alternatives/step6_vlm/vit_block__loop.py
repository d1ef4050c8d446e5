class CLIPEncoderLayer:
    # TODO vit_block
    def forward(self, x):
        for norm, part in ((self.layer_norm1, self.self_attn), (self.layer_norm2, self.mlp)):
            x = torch.add(x, part(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)))
        return x
