class MLP:
    def forward(self, x):
        gate = x @ self.gate_proj.weight.T
        up = x @ self.up_proj.weight.T
        hidden = gate / (1 + torch.exp(-gate)) * up
        return hidden @ self.down_proj.weight.T
