class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.to_text = nn.Parameter(torch.zeros(vision_dim, text_dim))

    # TODO projection
    def forward(self, features):
        return torch.einsum("bpv,vt->bpt", features, self.to_text)
