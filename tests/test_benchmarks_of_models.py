"""The benchmarks of steps 1 and 2 run to their end on small sizes (their figures are nobody's then)."""

import dataclasses
import sys

import pytest
import torch

pytestmark = pytest.mark.slow


def test_tokenizer(tmp_path, monkeypatch, capsys):
    from benchmarks import tokenizer

    plot = tmp_path / "speed.png"
    monkeypatch.setattr(sys, "argv", ["tokenizer", "--characters", "200000", "--rounds", "1", "--plot", str(plot)])
    tokenizer.main()
    said = capsys.readouterr().out
    assert "training, ours / Hugging Face:" in said and "tiktoken" in said
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_gpt(capsys):
    from benchmarks import gpt

    config = dataclasses.replace(
        gpt.SMALL,
        vocab_size=97,
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    gpt.on_cpu(config, rows=2, context=16, rounds=1)
    gpt.generation(config, new=8, rounds=1)
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        gpt.on_gpu(config, torch.device(device), rows=2, context=16, rounds=1, compiled=False)
    said = capsys.readouterr().out
    assert "training, ours / lean GPT-2:" in said and "generation, ours / Hugging Face Llama:" in said
    assert "bfloat16" in said and "TFLOP/s" in said
    counts = [sum(p.numel() for p in gpt.build(gpt.SMALL, "cpu")[name].parameters()) for name in ("ours", "lean GPT-2")]
    assert counts[0] == pytest.approx(counts[1], rel=0.03), "the models are not of the same size"
