"""The tiny random checkpoints of the other families: T5, gated T5, Pegasus, mBART and Marian, two of each.

One is as transformers 5 saves it, in float32. The other is as the hub has such models, in bfloat16: with the keys that older
versions wrote into config.json, and with the tensors that they stored or left out. Both are read back by transformers when the
cases are made, so the files say what the answers are about. Shapes are odd on purpose (but heads of the latter have an even
width, which elserve's bfloat16 needs), and weights are scaled as in tiny_checkpoints.py, so that outputs vary.

Their tokenizers are those of tokenizer/, whose lengths they have; the files stay there.
"""
import json
import math
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import (GenerationConfig, MarianConfig, MarianMTModel, MBartConfig, MBartForConditionalGeneration, MT5Config,
                          MT5ForConditionalGeneration, PegasusConfig, PegasusForConditionalGeneration, T5Config,
                          T5ForConditionalGeneration)

# head: how far logits spread. eos: what the end of sequence has more than other tokens, as a bias of the logits, or where a
# family has none along the direction that all embeddings have (see t5_weights). end: what stands behind a source. longest: tokens
# of the longest source and answer. tokenizer: its folder in tokenizer/. hub: keys of config.json beside those that say the
# model's shape; None: as saved.
CHECKPOINTS = {
    # T5 v1.0: ReLU, a tied head over scaled states, heads that are wider than the model is for them, fewer buckets.
    "t5-odd": dict(
        model=T5ForConditionalGeneration, seed=21, tokenizer="t5-json", dtype=torch.float32,
        eos=5.8, start=0, end=[1], longest=70, hub=None,
        config=T5Config(vocab_size=304, d_model=20, d_kv=7, d_ff=37, num_layers=2, num_decoder_layers=1, num_heads=4,
                        relative_attention_num_buckets=13, relative_attention_max_distance=29, decoder_start_token_id=0),
        generation=dict(decoder_start_token_id=0, eos_token_id=1, max_length=32)),
    # As google-t5/t5-small: no feed_forward_proj, a position limit that nothing reads, an unused bias of cross-attention.
    "t5-hub": dict(
        model=T5ForConditionalGeneration, seed=22, tokenizer="t5", dtype=torch.bfloat16, eos=5.8, start=0, end=[1], longest=130,
        config=T5Config(vocab_size=416, d_model=18, d_kv=8, d_ff=30, num_layers=2, num_heads=3, decoder_start_token_id=0),
        hub=dict(vocab_size=416, d_model=18, d_kv=8, d_ff=30, num_layers=2, num_heads=3, n_positions=130,
                 relative_attention_num_buckets=32, layer_norm_epsilon=1e-06, dropout_rate=0.1, initializer_factor=1.0,
                 output_past=True, is_encoder_decoder=True, model_type="t5", decoder_start_token_id=0, eos_token_id=1,
                 pad_token_id=0, architectures=["T5ForConditionalGeneration"],
                 task_specific_params={"summarization": {"num_beams": 4, "prefix": "summarize: "}}),
        add={"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": (32, 3)},
        generation=dict(decoder_start_token_id=0, eos_token_id=1, max_length=40)),
    # v1.1 and FLAN: gated, a head of its own.
    "t5-gated-odd": dict(
        model=T5ForConditionalGeneration, seed=23, tokenizer="t5-json", dtype=torch.float32,
        eos=4.8, start=0, end=[1], longest=66, hub=None,
        config=T5Config(vocab_size=304, d_model=22, d_kv=9, d_ff=29, num_layers=2, num_decoder_layers=2, num_heads=3,
                        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0),
        generation=dict(decoder_start_token_id=0, eos_token_id=1, max_length=32)),
    # As google/mt5-small: a head of its own and tie_word_embeddings false; two ends of sequence.
    "t5-gated-hub": dict(
        model=MT5ForConditionalGeneration, seed=24, tokenizer="t5", dtype=torch.bfloat16, eos=4.8, start=0, end=[1], longest=64,
        config=MT5Config(vocab_size=410, d_model=24, d_kv=6, d_ff=34, num_layers=2, num_decoder_layers=1, num_heads=5),
        hub=dict(vocab_size=410, d_model=24, d_kv=6, d_ff=34, num_layers=2, num_decoder_layers=1, num_heads=5,
                 relative_attention_num_buckets=32, layer_norm_epsilon=1e-06, dropout_rate=0.1, initializer_factor=1.0,
                 feed_forward_proj="gated-gelu", is_encoder_decoder=True, model_type="mt5", decoder_start_token_id=0,
                 eos_token_id=1, pad_token_id=0, architectures=["MT5ForConditionalGeneration"], tie_word_embeddings=False,
                 tokenizer_class="T5Tokenizer", use_cache=True, output_past=True),
        generation=dict(decoder_start_token_id=0, eos_token_id=[1, 30], max_length=30)),
    # Sinusoids stored, as transformers 5 does.
    "pegasus-odd": dict(
        model=PegasusForConditionalGeneration, seed=25, tokenizer="pegasus-json", dtype=torch.float32,
        eos=4.0, start=0, end=[1], longest=67, hub=None,
        config=PegasusConfig(vocab_size=483, d_model=20, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
                             decoder_attention_heads=2, encoder_ffn_dim=31, decoder_ffn_dim=25, activation_function="relu",
                             scale_embedding=False, max_position_embeddings=67),
        generation=dict(decoder_start_token_id=0, eos_token_id=1, max_length=32)),
    # As google/pegasus-xsum: sinusoids left out, a scaled embedding.
    "pegasus-hub": dict(
        model=PegasusForConditionalGeneration, seed=26, tokenizer="pegasus", dtype=torch.bfloat16,
        eos=4.0, start=0, end=[1], longest=96,
        config=PegasusConfig(vocab_size=483, d_model=18, encoder_layers=1, decoder_layers=2, encoder_attention_heads=3,
                             decoder_attention_heads=3, encoder_ffn_dim=33, decoder_ffn_dim=33, activation_function="relu",
                             scale_embedding=True, max_position_embeddings=96),
        hub=dict(vocab_size=483, d_model=18, encoder_layers=1, decoder_layers=2, num_hidden_layers=1, encoder_attention_heads=3,
                 decoder_attention_heads=3, encoder_ffn_dim=33, decoder_ffn_dim=33, activation_function="relu",
                 scale_embedding=True, max_position_embeddings=96, normalize_before=True, normalize_embedding=False,
                 add_final_layer_norm=True, static_position_embeddings=True, add_bias_logits=False, extra_pos_embeddings=1,
                 model_type="pegasus", is_encoder_decoder=True, bos_token_id=0, pad_token_id=0, eos_token_id=1,
                 forced_eos_token_id=1, num_beams=8, length_penalty=0.6, max_length=40,
                 architectures=["PegasusForConditionalGeneration"]),
        remove=["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"],
        generation=dict(decoder_start_token_id=0, eos_token_id=1, forced_eos_token_id=1, num_beams=8, length_penalty=0.6,
                        max_length=40)),
    "mbart-odd": dict(
        model=MBartForConditionalGeneration, seed=27, tokenizer="mbart50", dtype=torch.float32,
        eos=4.2, start=2, end=[2], longest=60, hub=None,
        config=MBartConfig(vocab_size=414, d_model=20, encoder_layers=1, decoder_layers=2, encoder_attention_heads=5,
                           decoder_attention_heads=4, encoder_ffn_dim=29, decoder_ffn_dim=41, activation_function="gelu",
                           scale_embedding=False, max_position_embeddings=60),
        generation=dict(decoder_start_token_id=2, eos_token_id=2, forced_bos_token_id=368, max_length=32)),
    # As facebook/mbart-large-cc25: the target language is what the decoder starts from.
    "mbart-hub": dict(
        model=MBartForConditionalGeneration, seed=28, tokenizer="mbart", dtype=torch.bfloat16,
        eos=4.2, start=380, end=[2, 363], longest=75,
        config=MBartConfig(vocab_size=387, d_model=24, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
                           decoder_attention_heads=3, encoder_ffn_dim=35, decoder_ffn_dim=27, activation_function="gelu",
                           scale_embedding=True, max_position_embeddings=75),
        hub=dict(vocab_size=387, d_model=24, encoder_layers=2, decoder_layers=1, num_hidden_layers=2, encoder_attention_heads=2,
                 decoder_attention_heads=3, encoder_ffn_dim=35, decoder_ffn_dim=27, activation_function="gelu",
                 scale_embedding=True, max_position_embeddings=75, normalize_before=True, normalize_embedding=True,
                 add_final_layer_norm=True, static_position_embeddings=False, add_bias_logits=False, model_type="mbart",
                 is_encoder_decoder=True, bos_token_id=0, pad_token_id=1, eos_token_id=2, num_beams=5, output_past=True,
                 max_length=32, architectures=["MBartForConditionalGeneration"]),
        generation=dict(decoder_start_token_id=380, eos_token_id=2, num_beams=5, max_length=32)),
    # Sinusoids left out, as transformers 5 does.
    "marian-odd": dict(
        model=MarianMTModel, seed=29, tokenizer="marian-bpe", dtype=torch.float32,
        eos=4.2, start=571, end=[0], longest=62, hub=None,
        config=MarianConfig(vocab_size=572, d_model=20, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                            decoder_attention_heads=5, encoder_ffn_dim=33, decoder_ffn_dim=23, activation_function="swish",
                            scale_embedding=True, max_position_embeddings=62, pad_token_id=571, eos_token_id=0,
                            decoder_start_token_id=571),
        generation=dict(decoder_start_token_id=571, eos_token_id=0, max_length=32)),
    # As Helsinki-NLP/opus-mt-en-de: every tied tensor and the sinusoids stored; generation that bans padding.
    "marian-hub": dict(
        model=MarianMTModel, seed=30, tokenizer="marian", dtype=torch.bfloat16, eos=4.2, start=372, end=[0], longest=70,
        config=MarianConfig(vocab_size=373, d_model=20, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                            decoder_attention_heads=2, encoder_ffn_dim=39, decoder_ffn_dim=39, activation_function="swish",
                            scale_embedding=True, max_position_embeddings=70, pad_token_id=372, eos_token_id=0,
                            decoder_start_token_id=372),
        hub=dict(vocab_size=373, decoder_vocab_size=373, d_model=20, encoder_layers=1, decoder_layers=1, num_hidden_layers=1,
                 encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=39, decoder_ffn_dim=39,
                 activation_function="swish", scale_embedding=True, max_position_embeddings=70, normalize_before=False,
                 normalize_embedding=False, add_final_layer_norm=False, static_position_embeddings=True, add_bias_logits=False,
                 share_encoder_decoder_embeddings=True, model_type="marian", is_encoder_decoder=True, bos_token_id=0,
                 pad_token_id=372, eos_token_id=0, forced_eos_token_id=0, decoder_start_token_id=372, num_beams=4, max_length=40,
                 bad_words_ids=[[372]], architectures=["MarianMTModel"]),
        copy={"model.encoder.embed_tokens.weight": "model.shared.weight",
              "model.decoder.embed_tokens.weight": "model.shared.weight", "lm_head.weight": "model.shared.weight"},
        sinusoids=["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"],
        generation=dict(decoder_start_token_id=372, eos_token_id=0, forced_eos_token_id=0, num_beams=4, max_length=40,
                        bad_words_ids=[[372]], renormalize_logits=True)),
}

SPREAD = 2.5  # of the logits


def ends_of(spec):
    ends = spec["generation"]["eos_token_id"]
    return ends if isinstance(ends, list) else [ends]


def t5_weights(model, spec, generator):
    """T5's head has no bias: all embeddings have a common direction, which the states keep, and the head's rows of the ends have
    more of it."""
    d = model.config.d_model
    scale = math.sqrt(d) if getattr(model.config, "scale_decoder_outputs", False) else 1.0
    direction = torch.ones(d) / math.sqrt(d)
    state = model.state_dict()
    tied = model.lm_head.weight is model.shared.weight
    for name in sorted(state):
        shape = tuple(state[name].shape)
        std = 0.8 / math.sqrt(shape[-1])
        if name == "shared.weight" or (name == "lm_head.weight" and not tied):
            std = SPREAD / math.sqrt(d) * scale
        elif "embed_tokens" in name or name == "lm_head.weight":
            continue
        elif "relative_attention_bias" in name:
            std = 1.5
        elif "SelfAttention.q" in name or "EncDecAttention.q" in name:
            std = 1.8 / math.sqrt(d * model.config.d_kv)
        elif "Attention.k" in name:
            std = 1.8 / math.sqrt(d)
        elif "EncDecAttention" in name:
            std = 2.0 / math.sqrt(shape[1])
        value = std * torch.randn(shape, generator=generator)
        if "layer_norm" in name:
            value = 1.0 + 0.1 * torch.randn(shape, generator=generator)
        if name == "shared.weight":
            value += std * direction
        if name == ("shared.weight" if tied else "lm_head.weight"):
            value[ends_of(spec)] += spec["eos"] * scale / math.sqrt(d) * direction
        state[name].copy_(value)


def bart_weights(model, spec, generator):
    d = model.config.d_model
    spread = SPREAD / math.sqrt(d)
    state = model.state_dict()
    for name in sorted(state):
        shape = tuple(state[name].shape)
        if name == "final_logits_bias":
            value = 0.3 * torch.randn(shape, generator=generator)
            value[0, ends_of(spec)] = spec["eos"]
        elif "embed_positions" in name:
            if model.config.model_type != "mbart":
                continue  # sinusoids
            value = spread * math.sqrt(d) * torch.randn(shape, generator=generator)
        elif "embed_tokens" in name or "shared" in name or "lm_head" in name:
            value = spread * torch.randn(shape, generator=generator)
        elif "layernorm" in name or "layer_norm" in name:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.1 * torch.randn(shape, generator=generator)
        elif name.endswith("bias"):
            value = 0.1 * torch.randn(shape, generator=generator)
        elif "q_proj" in name or "k_proj" in name:
            value = 1.8 / math.sqrt(shape[1]) * torch.randn(shape, generator=generator)
        else:
            value = (1.6 if "encoder_attn" in name else 0.8) / math.sqrt(shape[1]) * torch.randn(shape, generator=generator)
        state[name].copy_(value)


def as_the_hub_has_it(directory, spec, model):
    """Rewrites what save_pretrained wrote."""
    with open(f"{directory}/config.json", "w") as out:
        json.dump(spec["hub"] | {"torch_dtype": str(spec["dtype"]).removeprefix("torch.")}, out, indent=2)
    path = f"{directory}/model.safetensors"
    tensors = load_file(path)
    for name in spec.get("remove", []):
        del tensors[name]
    for name in spec.get("sinusoids", []):
        tensors[name] = model.get_parameter(name).detach().clone().to(spec["dtype"])
    for name, source in spec.get("copy", {}).items():
        tensors[name] = tensors[source].clone()
    for name, shape in spec.get("add", {}).items():
        tensors[name] = torch.ones(shape, dtype=spec["dtype"])
    save_file(tensors, path, metadata={"format": "pt"})


def write_checkpoint(name, directory):
    spec = CHECKPOINTS[name]
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    generator = torch.Generator().manual_seed(spec["seed"])
    model = spec["model"]._from_config(spec["config"], attn_implementation="eager").eval()
    with torch.no_grad():
        if name == "t5-gated-odd" or name == "t5-gated-hub":  # transformers ties them again unless the file has two
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        (t5_weights if name.startswith("t5") else bart_weights)(model, spec, generator)
        model = model.to(spec["dtype"])
    model.generation_config = GenerationConfig(pad_token_id=spec["config"].pad_token_id, **spec["generation"])
    model.save_pretrained(directory)
    if spec["hub"]:
        as_the_hub_has_it(directory, spec, model)
    for file in os.listdir(directory):
        os.chmod(f"{directory}/{file}", 0o644)
