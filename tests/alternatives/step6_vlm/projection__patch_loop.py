class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.first = nn.Linear(vision_dim, text_dim)
        self.rest = nn.ModuleList(nn.Linear(text_dim, text_dim) for _ in range(2))

    # TODO projection
    def forward(self, features):
        out = []
        for patch in features.unbind(1):  # [B, vision_dim]
            y = self.first(patch)
            for layer in self.rest:
                y = y + layer(torch.tanh(y))
            out.append(y)
        return torch.stack(out, dim=1)
