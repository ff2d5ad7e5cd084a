"""Makes weight_files/: the weights of one tiny random BART in every format that a checkpoint may have, written by torch itself.

Usage, in an environment with requirements.txt: python3 make_weight_files.py

safetensors  what transformers 5 writes
zip          pytorch_model.bin as torch.save writes it since 1.6; embeddings and head are four names of one storage
legacy       the same in the format before; its storages are named by their addresses, so it differs from run to run
shards       pytorch_model.bin.index.json, one shard of either format, as transformers before 5 wrote them
views        one storage for all tensors, matrices in it transposed; parameters, and values of other types and kinds beside them
"""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from transformers import BartConfig, BartForConditionalGeneration

import tiny_checkpoints

HERE = os.path.dirname(os.path.abspath(__file__))
SPEC = dict(position_weight=2.0, logits_bias=0.3, generation=dict(eos_token_id=tiny_checkpoints.EOS), eos_bias=1.0)
CONFIG = dict(model_type="bart", vocab_size=37, d_model=6, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
              decoder_attention_heads=3, encoder_ffn_dim=5, decoder_ffn_dim=7, activation_function="gelu", scale_embedding=True,
              max_position_embeddings=30, tie_word_embeddings=True)
SHARDS = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_shards(state, folder):
    names = list(state)
    half = len(names) // 2
    # What shares a storage is in one shard.
    first = set(names[:half]) | {name for name in names if state[name].data_ptr() == state["model.shared.weight"].data_ptr()}
    parts = [{name: state[name] for name in names if (name in first) == (i == 0)} for i in range(2)]
    torch.save(parts[0], f"{folder}/{SHARDS[0]}")
    save_legacy(parts[1], f"{folder}/{SHARDS[1]}")
    index = {"metadata": {"total_size": sum(value.nbytes for value in state.values())},
             "weight_map": {name: SHARDS[i] for i in range(2) for name in parts[i]}}
    json.dump(index, open(f"{folder}/pytorch_model.bin.index.json", "w"), indent=0)


def views(state):
    flat = torch.zeros(sum(value.numel() for value in state.values()) + 1)
    out, begin = {}, 1
    for i, (name, value) in enumerate(state.items()):
        part = flat[begin:begin + value.numel()]
        begin += value.numel()
        view = part.view(value.shape[::-1]).t() if value.dim() == 2 else part.view(value.shape)
        view.copy_(value)
        out[name] = torch.nn.Parameter(view) if i % 2 == 0 else view
    out["model.encoder.position_ids"] = torch.arange(30).expand(2, -1)
    out["model.scale"] = torch.ones(2, dtype=torch.float64)
    out["model.steps"] = 3
    out["model.names"] = ["a", {"b": None, "c": 0.5}]
    return out


def main():
    model = BartForConditionalGeneration._from_config(BartConfig(**CONFIG), attn_implementation="eager").eval()
    with torch.no_grad():
        tiny_checkpoints.random_weights(model, SPEC, torch.Generator().manual_seed(21))
    state = model.state_dict()
    tied = {"lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}
    untied = {name: value for name, value in state.items() if name not in tied}
    shutil.rmtree(f"{HERE}/weight_files", ignore_errors=True)
    save = {"safetensors": lambda folder: save_file(untied, f"{folder}/model.safetensors", metadata={"format": "pt"}),
            "zip": lambda folder: torch.save(state, f"{folder}/pytorch_model.bin"),
            "legacy": lambda folder: save_legacy(state, f"{folder}/pytorch_model.bin"),
            "shards": lambda folder: save_shards(state, folder),
            "views": lambda folder: torch.save(views(untied), f"{folder}/pytorch_model.bin")}
    for name, write in save.items():
        folder = f"{HERE}/weight_files/{name}"
        os.makedirs(folder)
        json.dump(CONFIG, open(f"{folder}/config.json", "w"), indent=1)
        write(folder)
        for file in os.listdir(folder):
            os.chmod(f"{folder}/{file}", 0o644)


if __name__ == "__main__":
    main()
