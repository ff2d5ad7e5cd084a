"""Adds cases of diverse beam search to the golden data: what transformers 4.49 answers, the last version that has it.

Usage, after make_golden.py, in an environment with diverse_requirements.txt: python3 make_diverse.py [NAME...]
Replaces the cases with groups of beams in cases/NAME.json; they are made and kept as make_golden.py's are.
"""
import collections
import functools
import json
import random
import sys
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BeamSearchScorer, GenerationConfig

import make_golden
import settings


def with_float32_logits(forward):
    """_group_beam_search takes no others."""

    @functools.wraps(forward)
    def wrapped(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits.float()
        return out

    return wrapped


class Ties:
    """As make_golden.Ties, but that a group which has ended does not count: its beams are all the same."""

    def __enter__(self):
        self.found, self.process = False, BeamSearchScorer.process

        def process(scorer, input_ids, next_scores, *args, **kwargs):
            equal = (next_scores[:, 1:] == next_scores[:, :-1]) & (next_scores[:, 1:] > -1e8)
            self.found = self.found or (bool(equal.any()) and not scorer._done[kwargs["group_index"]])
            return self.process(scorer, input_ids, next_scores, *args, **kwargs)

        BeamSearchScorer.process = process
        return self

    def __exit__(self, *_):
        BeamSearchScorer.process = self.process


class Model(make_golden.Model):
    def __init__(self, directory, decoder_only):
        self.models, self.decoder_only = {}, decoder_only
        load = AutoModelForCausalLM if decoder_only else AutoModelForSeq2SeqLM
        for dtype in (torch.float32, torch.float64):
            # transformers 5 unties T5's matrices where a file has two, whatever the configuration says.
            untied = {"tie_word_embeddings": False} if "t5-gated" in directory else {}
            model = load.from_pretrained(directory, torch_dtype=torch.float32, attn_implementation="eager", **untied)
            self.models[dtype] = model.to(dtype).eval()
            model.forward = with_float32_logits(model.forward)

    def generate(self, source, parameters, dtype, prefix=None):
        """Answers end with their first EOS, if any: beam_indices count one too many in all groups but the first. max_length is an
        argument, for one of 20 in a configuration is taken for the default, and then means new tokens."""
        parameters = {k: (v or None) if isinstance(v, list) else v for k, v in parameters.items()}
        model, begin = self.models[dtype], len(source) if self.decoder_only else 1
        pad = model.config.pad_token_id
        model.generation_config = GenerationConfig(pad_token_id=1 if pad is None else pad, **parameters)
        ids = torch.tensor([source])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True, output_scores=True,
                                 max_length=parameters["max_length"])
        answers = []
        for tokens, score in zip(out.sequences, out.sequences_scores):
            tokens, ends = tokens[begin:].tolist(), parameters["eos_token_id"] or []
            count = next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))
            answers.append((tokens[:count], score.item(), None))
        return answers


def add(name):
    path = f"{make_golden.HERE}/cases/{name}.json"
    with open(path) as file:
        data = json.load(file)
    decoder_only = data.get("decoder_only", False)
    cases = [c for c in data["cases"] if "num_beam_groups" not in c["parameters"]]
    model, rng, dropped = Model(f"{make_golden.ROOT}/{data['checkpoint']}", decoder_only), random.Random(name), collections.Counter()
    pad = model.models[torch.float32].config.pad_token_id
    ordinary = [c for c in cases if "prefix" not in c and "prompt" not in c]
    # Ids that the model likes: the most frequent of its answers.
    ends = ordinary[0]["parameters"]["eos_token_id"]
    counts = collections.Counter(t for c in ordinary for s in c["sequences"] for t in s["tokens"] if t > 4 and t not in ends)
    liked = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4]]
    sources = [list(s) for s in sorted({tuple(c["source"]) for c in ordinary})]
    # It is the same model as transformers 5's.
    for case in ordinary[1:60:9]:
        if case["parameters"].get("num_beams", 1) == 1 and "max_length" in case["parameters"]:
            whole = case["source"] if decoder_only else [case["parameters"]["decoder_start_token_id"]]
            logprobs = model.logprobs(case["source"], whole, case["sequences"][0]["tokens"])
            assert max(abs(a - b) for a, b in zip(logprobs, case["sequences"][0]["logprobs"])) < 1e-3, name
    for changes in settings.DIVERSE:
        length = changes["max_length"]
        longest = max(c["parameters"].get("max_length", 0) for c in ordinary)
        source = rng.choice([s for s in sources if not decoder_only or len(s) + length <= longest])
        ids = {"EOS": ends[0]} | dict(zip("ABCD", liked))

        def resolve(value):
            return [resolve(v) for v in value] if isinstance(value, list) else ids.get(value, value)

        base = {"eos_token_id": ends}
        if decoder_only:
            base["max_length"] = length + len(source) - 1
            changes = {k: v + len(source) - 1 if k == "min_length" else v for k, v in changes.items() if k != "max_length"}
            if "forced_bos_token_id" in changes and len(source) > 1:
                del changes["forced_bos_token_id"]
        else:
            base["decoder_start_token_id"] = ordinary[0]["parameters"]["decoder_start_token_id"]
        made = make_golden.make_case(model, source, base | {k: resolve(v) for k, v in changes.items()})
        if isinstance(made, str):
            dropped[made] += 1
            continue
        made[0]["parameters"]["pad_token_id"] = 1 if pad is None else pad
        cases.append(made[0])
    make_golden.write(name, data["checkpoint"], data["states"], cases, tokenizer=data.get("tokenizer"), decoder_only=decoder_only,
                      made_with=data["made_with"])
    print(f"{name}: {len(cases)} cases, {dropped.total()} of {len(settings.DIVERSE)} dropped {dict(dropped)}", flush=True)


def main(names):
    if not transformers.__version__.startswith("4.49."):
        sys.exit("make_diverse.py needs transformers 4.49")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    make_golden.Ties = Ties
    warnings.simplefilter("ignore")
    # FAVOR+'s module is transformers 5's.
    tiny = [name for name, spec in make_golden.tiny_checkpoints.CHECKPOINTS.items() if "favor_features" not in spec["config"]]
    every = [*tiny, *make_golden.family_checkpoints.CHECKPOINTS,
             *make_golden.decoder_only_checkpoints.CHECKPOINTS]
    for name in names or every:
        add(name)


if __name__ == "__main__":
    main(sys.argv[1:])
