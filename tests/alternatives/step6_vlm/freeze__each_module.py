def freeze(module):
    for part in module.modules():
        part.training = False
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
    return module


class VLM:
    # TODO freeze
    def train(self, mode=True):
        self.training = mode
        for name, child in self.named_children():
            child.train(mode and name != "vision")
        return self
