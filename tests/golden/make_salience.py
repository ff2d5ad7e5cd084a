"""Makes cases/NAME-salience.json: what transformers answers on the tiny checkpoints where some of the source's tokens are salient
(Cao and Wang 2021), with hooks on the cross-attention of the chosen layers that add log(1 - strength) to the chosen heads' scores
of all other tokens.

Usage, in an environment with requirements.txt, once make_golden.py has made the checkpoints: python3 make_salience.py [NAME...]
Which cases are kept is make_golden.py's rule. Beside its fields a file has "salience": {"layers", "heads"}, and a case
"salience": {"tokens": [[begin, end], ...], "strength"}.
"""
import collections
import json
import math
import random
import sys
import warnings

import torch
import transformers

import make_golden

# layers and heads count from 1. bart-wide has sources of several pages, and heads and layers by default.
FILES = {
    "bart-odd": dict(seed=61, start=2, before=[0], end=[2], longest=96, vocab=283, layers=[1, 3], heads=[1, 2, 4], all_heads=5),
    "bart-wide": dict(seed=62, start=2, before=[0], end=[2], longest=200, vocab=307, layers=[1], heads=[1, 2, 3, 4], all_heads=4),
    "t5-gated-odd": dict(seed=63, start=0, before=[], end=[1], longest=66, vocab=304, layers=[2], heads=[1, 3], all_heads=3,
                         tokenizer="tests/golden/tokenizer/t5-json"),
}
CASES = 72
SETTINGS = [{"max_new_tokens": 20}, {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 18},
            {"num_beams": 3, "no_repeat_ngram_size": 2, "max_new_tokens": 24, "length_penalty": 2.0}]


class Hooks:
    """Adds to scores within a `with`."""

    def __init__(self, spec, models, tokens, length, strength):
        self.handles, self.spec, self.models = [], spec, models
        addition = torch.full((length,), math.log1p(-strength) if strength < 1 else -math.inf, dtype=torch.float64)
        for begin, end in tokens:
            addition[begin:end] = 0
        self.bias = torch.zeros(1, spec["all_heads"], 1, length, dtype=torch.float64)
        self.bias[0, [head - 1 for head in spec["heads"]], 0] = addition

    def __enter__(self):
        for model in self.models:
            for layer in self.spec["layers"]:
                if model.config.model_type == "t5":
                    # What comes back as position_bias would be the next layers', too.
                    attention = model.decoder.block[layer - 1].layer[1].EncDecAttention
                    self.add(attention, "position_bias")
                    self.handles.append(attention.register_forward_hook(lambda _, __, out: (out[0], None, *out[2:])))
                else:
                    self.add(model.model.decoder.layers[layer - 1].encoder_attn, "attention_mask")

    def add(self, attention, name):
        def hook(_, args, kwargs):
            states = args[0] if args else kwargs["hidden_states"]
            return args, kwargs | {name: self.bias.to(states.dtype)}
        self.handles.append(attention.register_forward_pre_hook(hook, with_kwargs=True))

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def ranges(rng, length):
    """One to four ranges of tokens, ascending and apart."""
    marks = sorted(rng.sample(range(length + 1), min(length + 1, 2 * rng.randint(1, 4)) // 2 * 2))
    return [[begin, end] for begin, end in zip(marks[::2], marks[1::2])]


def make(name):
    spec = FILES[name]
    model = make_golden.Model(f"{make_golden.HERE}/checkpoints/{name}", start=spec["start"], ends=spec["end"], end=spec["end"])
    rng, cases, dropped, swaps, steered = random.Random(spec["seed"]), [], collections.Counter(), 0, 0
    lengths = [n for n in (3, 9, 30, 63, 64, 65, 96, 130, 200) if n <= spec["longest"]]
    for i in range(CASES):
        length = lengths[i % len(lengths)]
        around = spec["before"] + spec["end"]
        source = (spec["before"] + [rng.randrange(5, spec["vocab"] - 12) for _ in range(length - len(around))] + spec["end"])
        salience = {"tokens": ranges(rng, length), "strength": rng.choice([0.5, 0.9, 0.99, 1.0, 1.0])}
        parameters = {"decoder_start_token_id": spec["start"], "eos_token_id": spec["end"]} | SETTINGS[i % len(SETTINGS)]
        with Hooks(spec, model.models.values(), salience["tokens"], length, salience["strength"]):
            made = make_golden.make_case(model, source, parameters)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        without = model.generate(source, parameters, torch.float32)
        steered += [a[0] for a in without] != [s["tokens"] for s in made[0]["sequences"]]
        cases.append({"salience": salience} | made[0])
        swaps += made[1]
    path = f"{make_golden.HERE}/cases/{name}-salience.json"
    make_golden.write(f"{name}-salience", f"tests/golden/checkpoints/{name}", [], cases, tokenizer=spec.get("tokenizer"))
    content = open(path).read()
    heads = json.dumps({"layers": spec["layers"], "heads": spec["heads"]}, separators=(",", ":"))
    open(path, "w").write(content.replace('"made_with"', f'"salience":{heads},"made_with"', 1))
    make_golden.report(f"{name}-salience", cases, dropped, swaps)
    print(f"{steered} of them are not what they are without salience")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or FILES:
        make(name)
