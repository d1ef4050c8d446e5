class Projection:
    # TODO projection
    def __init__(self, vision_dim: int, text_dim: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(vision_dim),
            nn.Linear(vision_dim, 4 * text_dim),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(4 * text_dim, text_dim),
            nn.LayerNorm(text_dim),
        )

    # TODO projection
    def forward(self, features):
        return self.net(features)
