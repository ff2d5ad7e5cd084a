"""The tiny random BART checkpoints of the golden data, as Hugging Face directories.

Shapes are odd on purpose: widths that are no multiple of a vector, encoder and decoder of different depth, heads and
feed-forward width. Weights are scaled so that outputs vary (a standard deviation of 0.02 makes every token equally likely):
attention is peaked, logits spread by about 2.5, and the end of sequence has a bias that ends hypotheses at different steps.
"""
import json
import math
import os
import shutil
import sys

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BartConfig, BartForConditionalGeneration, BartTokenizer, GenerationConfig

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/debian-synopsis/training"))
from favor import FavorBartForConditionalGeneration  # noqa: E402

EOS = 2

# eos_bias: the end of sequence's final_logits_bias. generation: the checkpoint's own generation_config.json. sources: how many
# there are for each setting of the cases, where not 3; states: the lengths of those whose states are kept, where not 1, 9 and 17.
CHECKPOINTS = {
    # An untied head with a bias, embeddings of encoder, decoder and head all different, one encoder layer below three.
    "bart-odd": dict(
        seed=11, dtype=torch.float32, shard=None, eos_bias=3.8, position_weight=2.0, logits_bias=0.5,
        config=dict(vocab_size=283, d_model=40, encoder_layers=1, decoder_layers=3, encoder_attention_heads=5,
                    decoder_attention_heads=5, encoder_ffn_dim=56, decoder_ffn_dim=56, activation_function="gelu_new",
                    scale_embedding=True, tie_word_embeddings=False, max_position_embeddings=96),
        generation=dict(decoder_start_token_id=EOS, eos_token_id=EOS, max_length=32)),
    # Several ends of sequence and a forced first token; float16 in several shards with an index.
    "bart-relu": dict(
        seed=12, dtype=torch.float16, shard="24KB", eos_bias=3.2, position_weight=3.0, logits_bias=0.3,
        config=dict(vocab_size=271, d_model=24, encoder_layers=3, decoder_layers=2, encoder_attention_heads=3,
                    decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=33, activation_function="relu",
                    scale_embedding=False, tie_word_embeddings=True, max_position_embeddings=48),
        generation=dict(decoder_start_token_id=EOS, eos_token_id=[EOS, 17, 40], forced_bos_token_id=0, num_beams=3,
                        max_length=24)),
    # Sources of several pages; heads of 6 in the encoder and of 9 in the decoder; defaults like those of BART-large-CNN.
    "bart-wide": dict(
        seed=11, dtype=torch.bfloat16, shard=None, eos_bias=4.4, position_weight=2.0, logits_bias=0.0,
        config=dict(vocab_size=307, d_model=36, encoder_layers=2, decoder_layers=2, encoder_attention_heads=6,
                    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=80, activation_function="gelu",
                    scale_embedding=True, tie_word_embeddings=True, max_position_embeddings=200),
        generation=dict(decoder_start_token_id=EOS, eos_token_id=EOS, forced_bos_token_id=0, forced_eos_token_id=EOS,
                        num_beams=4, length_penalty=2.0, min_length=6, max_length=40, no_repeat_ngram_size=3,
                        early_stopping=True)),
    # One layer a side, a start token of its own, no bias on the logits but the end's.
    "bart-one": dict(
        seed=12, dtype=torch.float32, shard=None, eos_bias=3.3, position_weight=3.0, logits_bias=0.0,
        config=dict(vocab_size=269, d_model=18, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                    decoder_attention_heads=3, encoder_ffn_dim=17, decoder_ffn_dim=31, activation_function="silu",
                    scale_embedding=False, tie_word_embeddings=True, max_position_embeddings=72,
                    decoder_start_token_id=4),
        generation=dict(decoder_start_token_id=4, eos_token_id=EOS, max_length=32)),
    # FAVOR+ in the encoder: features of more than a page, in a last block of 4 of 6, over sources of more than a strip.
    "bart-favor": dict(
        seed=13, dtype=torch.float32, shard=None, eos_bias=3.5, position_weight=2.0, logits_bias=0.2, sources=1, states=(1, 9, 150),
        config=dict(vocab_size=289, d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                    decoder_attention_heads=4, encoder_ffn_dim=44, decoder_ffn_dim=36, activation_function="gelu",
                    scale_embedding=True, tie_word_embeddings=True, max_position_embeddings=150, favor_features=70),
        generation=dict(decoder_start_token_id=EOS, eos_token_id=EOS, max_length=32)),
}

# Any text will do for the merges.
TOKENIZER_TEXT = [
    "a generation inference server for encoder-decoder transformers: one program that reads a checkpoint, takes summarization "
    "and question-generation requests, batches them continuously, and decodes them, beam search included, on hidden states",
    "people who run summarization today choose between slow generality, static batches without a server and servers that "
    "dropped encoder-decoder models or beam search",
]


def random_weights(model, spec, generator):
    def normal(shape, std, mean=0.0):
        return mean + std * torch.randn(shape, generator=generator)

    # The last norm's output has variance 1: logits then spread by about 2.5.
    spread = 2.5 / math.sqrt(model.config.d_model)
    ends = spec["generation"]["eos_token_id"]
    ends = ends if isinstance(ends, list) else [ends]
    state = model.state_dict()
    for name in sorted(state):
        shape = tuple(state[name].shape)
        if name.endswith(".features"):
            continue
        if name == "final_logits_bias":
            value = normal(shape, spec["logits_bias"])
            value[0, ends] = spec["eos_bias"]
        elif "embed_positions" in name:
            value = normal(shape, spread * model.model.encoder.embed_tokens.embed_scale * spec["position_weight"])
        elif "embed_tokens" in name or "shared" in name or "lm_head" in name:
            value = normal(shape, spread)
        elif "layernorm" in name or "layer_norm" in name:
            value = normal(shape, 0.1, 1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            value = normal(shape, 0.1)
        elif "q_proj" in name or "k_proj" in name:
            value = normal(shape, 1.8 / math.sqrt(shape[1]))
        else:  # the source counts for more than the rest, which would pull each step towards the same token
            value = normal(shape, (1.4 if "encoder_attn" in name else 0.8) / math.sqrt(shape[1]))
        state[name].copy_(value)


def write_tokenizer(directory, vocab_size):
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(TOKENIZER_TEXT, vocab_size=vocab_size, min_frequency=1, show_progress=False,
                            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bpe.save_model(directory)
    BartTokenizer.from_pretrained(directory, model_max_length=1024).save_pretrained(directory)
    for name in os.listdir(directory):
        if name not in ("tokenizer.json", "tokenizer_config.json"):
            os.remove(f"{directory}/{name}")
    tokenizer = json.load(open(f"{directory}/tokenizer.json"))
    json.dump(tokenizer, open(f"{directory}/tokenizer.json", "w"), ensure_ascii=False, separators=(",", ":"))
    # What else the library writes says where the files were loaded from.
    config = {"add_prefix_space": False, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "sep_token": "</s>",
              "cls_token": "<s>", "unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 1024,
              "tokenizer_class": "BartTokenizer"}
    json.dump(config, open(f"{directory}/tokenizer_config.json", "w"), indent=1)


def write_checkpoint(name, directory):
    spec = CHECKPOINTS[name]
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    config = dict(decoder_start_token_id=EOS) | spec["config"]
    config = BartConfig(**config, pad_token_id=1, bos_token_id=0, eos_token_id=EOS, forced_eos_token_id=None, dropout=0.0)
    generator = torch.Generator().manual_seed(spec["seed"])
    favor = "favor_features" in spec["config"]
    kind = FavorBartForConditionalGeneration if favor else BartForConditionalGeneration
    model = kind._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        random_weights(model, spec, generator)
        if favor:
            model.draw_features(generator)
        model = model.to(spec["dtype"])
    model.generation_config = GenerationConfig(bos_token_id=0, pad_token_id=1, **spec["generation"])
    write_tokenizer(directory, config.vocab_size)
    model.save_pretrained(directory, **({"max_shard_size": spec["shard"]} if spec["shard"] else {}))
    for name in os.listdir(directory):
        os.chmod(f"{directory}/{name}", 0o644)
