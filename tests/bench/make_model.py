"""Writes random-weight checkpoints of real size for benchmarks: make_model.py base|large OUT_DIR TOKENIZER_DIR for BART, or
make_model.py gpt2 OUT_DIR for GPT-2-small without a tokenizer, which engine_bench does not need.

Speed does not depend on what the weights say as long as the output length is forced. TOKENIZER_DIR holds any byte-level BPE
(vocab.json, merges.txt), models/debian-synopsis's for one: ids up to 50264 are valid whether the tokenizer makes them or not.
"""
import json
import shutil
import sys

import torch
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

SIZES = {"base": dict(d=768, layers=6, ffn=3072, heads=12), "large": dict(d=1024, layers=12, ffn=4096, heads=16)}


def fill_vocabulary(out, size):
    """Names the ids that the tokenizer does not make: ctranslate2's converter wants a token for each id of the model. Tokens that
    were added to the vocabulary become part of it at their ids, which would otherwise follow its end."""
    values = json.load(open(f"{out}/tokenizer.json"))
    added = {t["content"]: t["id"] for t in values["added_tokens"]}
    for path, place in ((f"{out}/vocab.json", lambda v: v), (f"{out}/tokenizer.json", lambda v: v["model"]["vocab"])):
        values = json.load(open(path))
        vocabulary = place(values)
        vocabulary.update(added)
        taken = set(vocabulary.values())
        vocabulary.update({f"<filler{i}>": i for i in range(size) if i not in taken})
        json.dump(values, open(path, "w"))


def main(size, out, tokenizer=None):
    torch.manual_seed(0)
    if size == "gpt2":
        GPT2LMHeadModel(GPT2Config()).save_pretrained(out)
        return
    s = SIZES[size]
    config = BartConfig(vocab_size=50265, d_model=s["d"], encoder_layers=s["layers"], decoder_layers=s["layers"],
                        encoder_ffn_dim=s["ffn"], decoder_ffn_dim=s["ffn"], encoder_attention_heads=s["heads"],
                        decoder_attention_heads=s["heads"], max_position_embeddings=1024)
    BartForConditionalGeneration(config).save_pretrained(out)
    path = f"{out}/config.json"
    values = json.load(open(path))
    # ctranslate2's converter reads keys that newer transformers no longer writes.
    values.update(normalize_before=False, normalize_embedding=True, add_final_layer_norm=False)
    json.dump(values, open(path, "w"), indent=1)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{tokenizer}/{name}", out)
    fill_vocabulary(out, config.vocab_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
