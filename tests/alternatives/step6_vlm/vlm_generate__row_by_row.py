class VLM:
    # TODO vlm_generate
    def generate(self, input_ids, features=None, attention_mask=None, **options):
        rows = []
        for row in range(len(input_ids)):
            ids = input_ids[row : row + 1]
            if attention_mask is not None:
                ids = ids[:, attention_mask[row] != 0]
            embeds, _ = self.embed(ids, None if features is None else features[row : row + 1])
            rows.append(self.llm.generate(inputs_embeds=embeds, **options)[0])
        last = max(len(row) for row in rows)
        return torch.stack([torch.cat([row, row[-1:].expand(last - len(row))]) for row in rows])
