class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.linear = nn.Linear(vision_dim, text_dim)

    # TODO projection
    def forward(self, features):
        return self.linear(features)
