"""The tiny random checkpoints of models without an encoder: GPT-2, two of them.

One is as transformers 5 saves it, in float32, with a head of its own. The other is as the hub has openai-community/gpt2, in
bfloat16: names without the prefix of GPT2LMHeadModel, the masks that layers once stored, and no head, for it is the token
embedding. Shapes are odd on purpose (but heads of the latter have an even width, which elserve's bfloat16 needs), and weights are
scaled as in tiny_checkpoints.py, so that outputs vary. Their tokenizers are those of tokenizer/; the files stay there.
"""
import json
import math
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

# eos: how much more of the direction that all last states have the head's rows of the ends have (see write_weights). add: how much
# sublayers add: a tied head likes the token that the states still hold. tokenizer: its folder in tokenizer/. hub: config.json; None:
# as saved. Sources are prompts, of up to n_positions - 1 tokens.
CHECKPOINTS = {
    "gpt2-odd": dict(
        seed=41, tokenizer="gpt2-json", dtype=torch.float32, eos=4.4, add=0.8, hub=None,
        config=GPT2Config(vocab_size=337, n_positions=71, n_embd=21, n_layer=2, n_head=3, n_inner=37, activation_function="relu",
                          layer_norm_epsilon=1e-3, tie_word_embeddings=False, bos_token_id=329, eos_token_id=329,
                          pad_token_id=330),
        generation=dict(bos_token_id=329, eos_token_id=329, pad_token_id=330, max_length=40)),
    "gpt2-hub": dict(
        seed=42, tokenizer="gpt2", dtype=torch.bfloat16, eos=6.2, add=2.4,
        config=GPT2Config(vocab_size=400, n_positions=96, n_embd=24, n_layer=3, n_head=3, bos_token_id=399, eos_token_id=399),
        hub=dict(activation_function="gelu_new", architectures=["GPT2LMHeadModel"], attn_pdrop=0.1, bos_token_id=399,
                 embd_pdrop=0.1, eos_token_id=399, initializer_range=0.02, layer_norm_epsilon=1e-05, model_type="gpt2", n_ctx=96,
                 n_embd=24, n_head=3, n_layer=3, n_positions=96, resid_pdrop=0.1, summary_activation=None,
                 summary_first_dropout=0.1, summary_proj_to_labels=True, summary_type="cls_index", summary_use_proj=True,
                 task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}}, vocab_size=400),
        generation=dict(bos_token_id=399, eos_token_id=399, max_length=50)),
}

SPREAD = 2.5  # of the logits


def write_weights(model, spec, generator):
    """The head has no bias: the last norm's puts a common direction into all last states, of which the head's rows of the ends
    have more."""
    d = model.config.n_embd
    direction = torch.ones(d) / math.sqrt(d)
    ends = [spec["generation"]["eos_token_id"]]
    state = model.state_dict()
    tied = model.lm_head.weight is model.transformer.wte.weight
    for name in sorted(state):
        shape = tuple(state[name].shape)
        normal = torch.randn(shape, generator=generator)
        if name == "lm_head.weight" and tied:
            continue
        if name in ("lm_head.weight", "transformer.wte.weight"):
            value = SPREAD / math.sqrt(d) * normal
            if name == "lm_head.weight" or tied:
                value[ends] += spec["eos"] * direction
        elif name == "transformer.wpe.weight":
            value = SPREAD / math.sqrt(d) * normal
        elif name == "transformer.ln_f.bias":
            value = direction + 0.1 * normal
        elif ".ln_" in name:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.1 * normal
        elif name.endswith("bias"):
            value = 0.1 * normal
        elif "c_attn" in name:  # [d, 3d]: q, k, v
            value = torch.cat([1.8 / math.sqrt(d) * normal[:, :2 * d], 1.4 / math.sqrt(d) * normal[:, 2 * d:]], dim=1)
        else:
            value = spec["add"] / math.sqrt(shape[0]) * normal
        state[name].copy_(value)


def as_the_hub_has_it(directory, spec):
    """Rewrites what save_pretrained wrote."""
    with open(f"{directory}/config.json", "w") as out:
        json.dump(spec["hub"], out, indent=2)
    path = f"{directory}/model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    positions = spec["config"].n_positions
    for layer in range(spec["config"].n_layer):
        mask = torch.tril(torch.ones(positions, positions, dtype=torch.bool)).view(1, 1, positions, positions)
        tensors[f"h.{layer}.attn.bias"] = mask
    save_file(tensors, path, metadata={"format": "pt"})


def write_checkpoint(name, directory):
    spec = CHECKPOINTS[name]
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    generator = torch.Generator().manual_seed(spec["seed"])
    model = GPT2LMHeadModel._from_config(spec["config"], attn_implementation="eager").eval()
    with torch.no_grad():
        write_weights(model, spec, generator)
        model = model.to(spec["dtype"])
    model.generation_config = GenerationConfig(**spec["generation"])
    model.save_pretrained(directory)
    if spec["hub"]:
        as_the_hub_has_it(directory, spec)
    for file in os.listdir(directory):
        os.chmod(f"{directory}/{file}", 0o644)
