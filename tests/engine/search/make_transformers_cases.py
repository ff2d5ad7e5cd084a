"""Writes transformers_cases.json: what transformers' generate answers on logits that both sides compute alike.

    python make_transformers_cases.py > transformers_cases.json     (transformers 5.23, torch 2)

A case holds the decoding parameters, the seed of its logits (see `logits_after`, which transformers_test.cc repeats) and the
sequences and scores. It is kept only if slightly different logits give the same tokens: torch.topk promises no order of equal
sums, and another rounding of log-softmax must not matter.
"""

import json
import random
import sys

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

MASK = (1 << 64) - 1
CASES = 240


def mix(x):
    """splitmix64"""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def logits_after(seed, tokens, vocab, spread, eos, eos_bonus):
    h = seed
    for token in tokens:
        h = mix(h ^ (token + 1))
    # Multiples of 1/4096 in float32: exact on both sides.
    row = [(mix(h ^ (1000 + token)) % 4096) / 4096 * spread for token in range(vocab)]
    return [x + (eos_bonus if token in eos else 0) for token, x in enumerate(row)]


class TableConfig(PretrainedConfig):
    model_type = "table"


class Table(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.case = None
        self.noise = 0.0

    def forward(self, input_ids, attention_mask=None, **_):
        rows = [
            logits_after(c["seed"], ids, c["vocab"], c["spread"], c["eos_token_id"], c["eos_bonus"])
            for c in [self.case]
            for ids in input_ids.tolist()
        ]
        logits = torch.tensor(rows, dtype=torch.float32)
        if self.noise:
            # A function of the prefix, as logits are: equal beams stay equal.
            for row, ids in zip(logits, input_ids.tolist()):
                generator = torch.Generator().manual_seed(mix(len(ids) + 97 * sum((i + 1) * t for i, t in enumerate(ids))) >> 2)
                row += self.noise * torch.randn(row.shape, generator=generator)
        return CausalLMOutput(logits=logits[:, None, :])

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_):
        return {"input_ids": input_ids}


def random_case(rng):
    beams = rng.choice([1, 2, 3, 4, 5, 8])
    eos_ids = rng.choice([1, 1, 1, 2, 3])
    vocab = rng.randint(max(6, beams + eos_ids + 2), 24)
    max_length = rng.randint(3, 14)
    eos = rng.sample(range(vocab), eos_ids)
    return {
        "seed": rng.getrandbits(63),
        "vocab": vocab,
        "spread": rng.choice([2, 6, 12]),
        "eos_bonus": rng.choice([-4, -2, -1, 0, 1]),
        "num_beams": beams,
        "num_return_sequences": rng.randint(1, beams),
        "length_penalty": float(np.float32(rng.choice([-1.0, -0.3, 0.0, 0.6, 1.0, 1.0, 1.7, 3.0]))),
        "early_stopping": rng.choice([False, True, "never"]) if beams > 1 else False,
        "max_length": max_length,
        "min_length": rng.choice([0, 0, rng.randint(0, max_length)]),
        "min_new_tokens": rng.choice([0, 0, rng.randint(0, max_length - 1)]),
        "no_repeat_ngram_size": rng.choice([0, 0, 1, 2, 3]),
        "decoder_start_token_id": rng.choice([eos[0], rng.randrange(vocab)]),
        "forced_bos_token_id": rng.choice([-1, -1, rng.choice([t for t in range(vocab) if t not in eos])]),
        # Several forced ids tie at 0: only argmax says which comes first.
        "forced_eos_token_id": rng.choice([[], [], [eos[0]], eos if beams == 1 else [eos[-1]]]),
        "eos_token_id": eos,
    }


def answer(model, case, noise):
    model.case, model.noise = case, noise
    config = GenerationConfig(
        do_sample=False, use_cache=False, pad_token_id=0, return_dict_in_generate=True, output_scores=True,
        output_logits=True, num_beams=case["num_beams"], num_return_sequences=case["num_return_sequences"],
        max_length=case["max_length"], min_length=case["min_length"],
        no_repeat_ngram_size=case["no_repeat_ngram_size"], eos_token_id=case["eos_token_id"],
        forced_bos_token_id=None if case["forced_bos_token_id"] < 0 else case["forced_bos_token_id"],
        forced_eos_token_id=case["forced_eos_token_id"] or None,
        length_penalty=case["length_penalty"], early_stopping=case["early_stopping"],
    )
    if case["min_new_tokens"]:
        config.min_new_tokens = case["min_new_tokens"]
    start = torch.tensor([[case["decoder_start_token_id"]]])
    out = model.generate(start, attention_mask=torch.ones_like(start), generation_config=config)
    sequences, scores = [], []
    if case["num_beams"] == 1:
        tokens = out.sequences[0, 1:]
        total = torch.zeros(())
        for token, logits in zip(tokens, out.logits):
            total = total + torch.log_softmax(logits[0].float(), -1)[token]
        return [tokens.tolist()], [total.item()]
    for row, indices, score in zip(out.sequences, out.beam_indices, out.sequences_scores):
        length = int((indices >= 0).sum())
        sequences.append(row[1 : 1 + length].tolist())
        scores.append(score.item())
    return sequences, scores


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rng = random.Random(20)
    model = Table(TableConfig(vocab_size=64))
    kept, dropped = [], 0
    while len(kept) < CASES:
        case = random_case(rng)
        sequences, scores = answer(model, case, 0.0)
        if sequences != answer(model, case, 3e-6)[0] or min(scores) < -1e8:
            dropped += 1
            continue
        # A min_new_tokens overwrites min_length in generate; the parameters here say what holds.
        if case["min_new_tokens"]:
            case["min_length"] = case["min_new_tokens"] + 1
        kept.append({**case, "sequences": sequences, "scores": scores})
    print(f"{dropped} dropped of {dropped + CASES}", file=sys.stderr)
    print(f'{{"transformers": "{transformers.__version__}", "cases": [')
    print(",\n".join(json.dumps(case) for case in kept))
    print("]}")


if __name__ == "__main__":
    main()
