"""Writes sampling_cases.json: what transformers draws from, after its logits processors and warpers.

    python make_sampling_cases.py > sampling_cases.json     (transformers 5.23, torch 2)

A case holds the seed of a row of logits (see `logits_of`, which distribution_test.cc repeats), the source, the tokens so far, the
parameters and, of each token that may be drawn, its probability. It is kept only if the same tokens may be drawn in float64:
otherwise rounding decides.
"""

import json
import random
import sys

import torch
import transformers
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig

MASK = (1 << 64) - 1
EOS = [2, 3]


def mix(x):
    """splitmix64"""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def logits_of(seed, vocab, spread):
    # Multiples of 2^-16 in float32: exact on both sides. The third power makes few tokens likely.
    return [(2 * mix(seed + token) / (1 << 64) - 1) ** 3 // (1 / 65536) / 65536 * spread for token in range(vocab)]


ALONE = (
    [{}] + [{"temperature": t} for t in (0.05, 0.7, 1.5, 20.0)] + [{"top_h": h} for h in (0.05, 0.4, 0.8, 0.97)]
    + [{"top_k": k} for k in (1, 5, 20, 64, 90)] + [{"top_p": p} for p in (0.0, 0.1, 0.5, 0.9, 0.99)]
    + [{"min_p": p} for p in (0.01, 0.2, 1.0)] + [{"typical_p": p} for p in (0.05, 0.2, 0.6, 0.95)]
    + [{"epsilon_cutoff": e} for e in (0.001, 0.01, 0.5)] + [{"eta_cutoff": e} for e in (0.001, 0.02, 0.5)]
)
WARPERS = [("temperature", (0.5, 0.8, 1.3, 2.0)), ("top_h", (0.3, 0.7)), ("top_k", (3, 12, 40)), ("top_p", (0.4, 0.8, 0.95)),
           ("min_p", (0.02, 0.1)), ("typical_p", (0.3, 0.8)), ("epsilon_cutoff", (0.002, 0.03)), ("eta_cutoff", (0.002, 0.05))]
RULES = [("repetition_penalty", (0.7, 1.4)), ("encoder_repetition_penalty", (0.8, 1.5)), ("no_repeat_ngram_size", (1, 2)),
         ("suppress_tokens", ([4, 5, 6, 7, 8],)), ("sequence_bias", ([[[9], 3.0], [[11, 12], -2.0]],)), ("min_length", (9,)),
         ("exponential_decay_length_penalty", ([1, 1.5],)), ("remove_invalid_values", (True,)), ("renormalize_logits", (True,)),
         ("bad_words_ids", ([[13], [11, 14]],))]


def settings(rng):
    for alone in ALONE:
        for _ in range(2):
            yield {"top_k": 0} | alone
    for _ in range(90):
        names = rng.sample(WARPERS, rng.randrange(2, 5)) + rng.sample(RULES, rng.randrange(0, 4))
        yield {"top_k": 0} | {name: rng.choice(values) for name, values in names}


def distribution(model, case, dtype):
    config = GenerationConfig(do_sample=True, max_length=40, eos_token_id=EOS, **case["parameters"])
    config._eos_token_tensor = torch.tensor(EOS)
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=1,
                                             encoder_input_ids=torch.tensor([case["source"]]), prefix_allowed_tokens_fn=None,
                                             logits_processor=[], device="cpu", model_kwargs={})
    logits = torch.tensor([logits_of(case["seed"], case["vocab"], case["spread"])], dtype=dtype)
    return torch.softmax(processors(torch.tensor([case["tokens"]]), logits), -1)[0]


def main():
    # torch 2.15 takes no -infinity for a logit of a Categorical, which top_h and eta_cutoff make of values that others masked.
    torch.distributions.Distribution.set_default_validate_args(False)
    model = BartForConditionalGeneration(BartConfig(
        vocab_size=120, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1,
        encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=40))
    rng, cases, dropped = random.Random(7), [], 0
    for parameters in settings(rng):
        case = {"seed": rng.getrandbits(62), "vocab": rng.choice([40, 80, 120]), "spread": rng.choice([1.0, 4.0, 10.0, 24.0]),
                "source": [rng.randrange(4, 40) for _ in range(6)], "tokens": [0] + [rng.randrange(4, 16) for _ in range(4)] + [11],
                "parameters": parameters}
        probabilities, wide = distribution(model, case, torch.float32), distribution(model, case, torch.float64)
        if wide.isnan().any():  # nothing to draw from, which transformers fails on
            continue
        if not torch.equal(probabilities > 0, wide > 1e-38):
            dropped += 1
            continue
        case["probabilities"] = [[i, float(f"{p:.7g}")] for i, p in enumerate(wide.tolist()) if p > 1e-38]
        cases.append(case)
    print("[", ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases), "]", sep="\n")
    print(f"{len(cases)} cases, {dropped} dropped; transformers {transformers.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()
