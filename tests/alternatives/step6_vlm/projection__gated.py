class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.gate = nn.Linear(vision_dim, text_dim, bias=False)
        self.up = nn.Linear(vision_dim, text_dim, bias=False)
        self.down = nn.Linear(text_dim, text_dim, bias=False)
        nn.init.zeros_(self.down.weight)
        self.strength = nn.Parameter(torch.ones(()))

    # TODO projection
    def forward(self, features):
        return self.strength * self.down(F.silu(self.gate(features)) * self.up(features))
