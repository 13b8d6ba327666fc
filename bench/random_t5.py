"""Writes a T5 v1.1 folder with random weights at the shape of FLAN-T5-base or -large, for bench/cuda.sh.

    python bench/random_t5.py base|large|tiny FOLDER

What the weights say does not change the speed, so nothing has to be fetched. It changes the tokens: with transformers' own
first weights cross-attention takes the mean of the whole source, and all rows would get the same tokens. Its queries are
made larger, so that each row attends to a few tokens of its own source. There is no text: tokenizer.json is empty.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import T5Config, T5ForConditionalGeneration

COMMON = dict(
    vocab_size=32128, d_kv=64, relative_attention_num_buckets=32, relative_attention_max_distance=128,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, layer_norm_epsilon=1e-6,
    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
SHAPES = {
    "base": dict(d_model=768, d_ff=2048, num_layers=12, num_decoder_layers=12, num_heads=12),
    "large": dict(d_model=1024, d_ff=2816, num_layers=24, num_decoder_layers=24, num_heads=16),
    "tiny": dict(d_model=64, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=2, vocab_size=512, d_kv=32),
}
SHARPER_QUERIES = 4.0
SEED = 0


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        raise SystemExit(f"expected one of {', '.join(SHAPES)}, then the folder to write")
    config = {**COMMON, **SHAPES[sys.argv[1]]}
    torch.manual_seed(SEED)
    model = T5ForConditionalGeneration(T5Config(**config))
    # untied also where the library would tie them
    model.lm_head.weight = torch.nn.Parameter(torch.randn(config["vocab_size"], config["d_model"]))
    with torch.no_grad():
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.q.weight.mul_(SHARPER_QUERIES)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    ends = {name: config[name] for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")}
    files = {
        "config.json": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], **config},
        "generation_config.json": ends,
        "tokenizer.json": {},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    count = sum(tensor.numel() for tensor in tensors.values())
    print(f"{folder}: {count / 1e6:.0f} million random weights", file=sys.stderr)


if __name__ == "__main__":
    main()
