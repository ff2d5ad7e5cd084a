"""Makes the golden data: what transformers answers for many decoding parameters, one request at a time.

Usage, in an environment with requirements.txt: python3 make_golden.py [NAME...]
Writes checkpoints/NAME/ (the tiny random ones; models/debian-synopsis is used as it is) and cases/NAME.json. The same
versions and machine type give the same files; another processor may round differently in the last digit.

Every case runs alone in float32 on the CPU, and once more in float64. It is kept only if the tokens are the same: otherwise
rounding decides between two answers and neither is wrong. Neither is a case kept in which beam search met two equal sums (two
forced ends of sequence, say): torch.topk promises no order among them. Of each answer the file holds the tokens without the decoder's start
(of a decoder-only model, whose sources are prompts, without the prompt), the score (beams: sequences_scores; greedy: the sum of the log-probabilities) and each token's log-probability in the
unedited float32 logits, from a forward pass over the whole answer. Where a case has a prefix (decoder_input_ids, as they are
given to generate), what follows it. Some have each token's most likely alternatives, too, where no two are so close that
rounding decides which is the better one.
"""
import collections
import json
import os
import random
import sys
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, StopStringCriteria

import decoder_only_checkpoints
import family_checkpoints
import family_texts
import settings
import synopsis_texts
import tiny_checkpoints

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SYNOPSIS = "debian-synopsis"
TARGET = " the dog, they're 12"
ALTERNATIVES, CASES_BETWEEN, LEAST_GAP = 5, 16, 1e-4


def digits(x):
    return float(f"{x:.7g}")


class Ties:
    """Within a `with`: whether torch.topk, beam search's only choice, had to choose between equal values. Values of beams that
    never lived (about -1e9) do not count."""

    def __enter__(self):
        self.found, self.topk = False, torch.topk

        def topk(values, k, *args, **kwargs):
            best = self.topk(values, min(k + 1, values.shape[-1])).values
            self.found = self.found or bool(((best[..., 1:] == best[..., :-1]) & (best[..., 1:] > -1e8)).any())
            return self.topk(values, k, *args, **kwargs)

        torch.topk = topk
        return self

    def __exit__(self, *_):
        torch.topk = self.topk


class Model:
    """One checkpoint in float32 and float64."""

    def __init__(self, directory, start, ends, end):
        """start: what the decoder starts from, None of a decoder-only model; end: what stands behind a source."""
        self.models, self.start, self.ends, self.end = {}, start, ends, end
        self.tokenizer = None  # where parameters are texts
        self.decoder_only = start is None
        load = AutoModelForCausalLM if self.decoder_only else AutoModelForSeq2SeqLM
        if json.load(open(f"{directory}/config.json")).get("attention_type") == "favor":
            load = tiny_checkpoints.FavorBartForConditionalGeneration
        for dtype in (torch.float32, torch.float64):
            model = load.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
            self.models[dtype] = model.to(dtype).eval()

    def whole_prefix(self, parameters, prefix):
        """What the decoder is fed first, of a model that has an encoder."""
        start = parameters["decoder_start_token_id"]
        return prefix if prefix[:1] == [start] else [start] + (prefix or [])

    def generate(self, source, parameters, dtype, prefix=None):
        """The answers' tokens behind the prefix, their scores (beams) and beam indices."""
        begin = len(source if self.decoder_only else self.whole_prefix(parameters, prefix or []))
        model = self.models[dtype]
        parameters = {k: (v or None) if isinstance(v, list) else v for k, v in parameters.items() if k != "bad_words"}
        # Set on the model, for generate() fills what a given configuration leaves open from the model's own.
        # What pads ended rows is cut off; a model may have nothing for it, and no end to take instead.
        pad = model.config.pad_token_id
        model.generation_config = GenerationConfig(pad_token_id=1 if pad is None else pad, **parameters)
        ids = torch.tensor([source])
        given = {"decoder_input_ids": torch.tensor([prefix])} if prefix else {}
        if "stop_strings" in parameters:
            given["tokenizer"] = self.tokenizer
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True, output_scores=True,
                                 **given)
        if parameters.get("num_beams", 1) == 1:
            return [(out.sequences[0, begin:].tolist(), None, None)]
        answers = []
        for tokens, score, indices in zip(out.sequences, out.sequences_scores, out.beam_indices):
            indices = [i for i in indices.tolist() if i >= 0]
            answers.append((tokens[begin:begin + len(indices)].tolist(), score.item(), indices))
        return answers

    def log_softmax(self, source, prefix, tokens):
        """Of the logits in the place of each of the tokens, which stand behind the prefix."""
        with torch.inference_mode():
            ids = torch.tensor([prefix + tokens[:-1]])
            given = {"input_ids": ids} if self.decoder_only else {
                "input_ids": torch.tensor([source]), "attention_mask": torch.ones(1, len(source), dtype=torch.long),
                "decoder_input_ids": ids}
            logits = self.models[torch.float32](**given, use_cache=False).logits[0, len(prefix) - 1:].float()
        return torch.log_softmax(logits, -1)

    def logprobs(self, source, prefix, tokens):
        return [float(f"{x:.6g}") for x in self.log_softmax(source, prefix, tokens)[range(len(tokens)), tokens].tolist()]

    def states(self, source, start):
        """The encoder's last states and the first step's logits."""
        with torch.inference_mode():
            out = self.models[torch.float32](
                input_ids=torch.tensor([source]), attention_mask=torch.ones(1, len(source), dtype=torch.long),
                decoder_input_ids=torch.tensor([[start]]), use_cache=False)
        return {"source": source, "decoder_start_token_id": start,
                "encoder_states": [[float(f"{x:.6g}") for x in row] for row in out.encoder_last_hidden_state[0].tolist()],
                "first_logits": [float(f"{x:.6g}") for x in out.logits[0, 0].tolist()]}

    def favourites(self, vocab):
        """Four ordinary ids that the model generates often."""
        rng, count = random.Random(1), collections.Counter()
        for _ in range(8):
            source = [0] + [rng.randrange(5, vocab) for _ in range(10)] + self.end
            parameters = {"max_new_tokens": 23, "num_beams": 4, "num_return_sequences": 4, "eos_token_id": self.ends}
            if not self.decoder_only:
                parameters["decoder_start_token_id"] = self.start
            for tokens, _, _ in self.generate(source, parameters, torch.float32):
                count.update(t for t in tokens if t > 4)
        return [token for token, _ in sorted(count.items(), key=lambda item: (-item[1], item[0]))[:4]]


def make_case(model, source, parameters, prefix=None):
    """The case and whether its answers change beams; or why it is dropped."""
    with Ties() as ties:
        answers = model.generate(source, parameters, torch.float32, prefix)
    if ties.found:
        return "equal sums"
    if [a[0] for a in answers] != [a[0] for a in model.generate(source, parameters, torch.float64, prefix)]:
        return "float64 differs"
    sequences = []
    for tokens, score, _ in answers:
        whole = source if model.decoder_only else model.whole_prefix(parameters, prefix or [])
        logprobs = model.log_softmax(source, whole, tokens)[range(len(tokens)), tokens].tolist()
        score = sum(logprobs) if score is None else score
        sequences.append({"tokens": tokens, "score": digits(score), "logprobs": [float(f"{x:.6g}") for x in logprobs]})
    swaps = any(len(set(a[2] or [0])) > 1 for a in answers)
    beside = {"prefix": prefix} if prefix else {}
    return {"source": source, **beside, "parameters": parameters, "sequences": sequences}, swaps


def write(name, checkpoint, states, cases, tokenizer=None, decoder_only=False, made_with=None):
    """tokenizer: its folder, where the checkpoint has none. decoder_only: the sources are prompts."""
    made_with = made_with or f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    os.makedirs(f"{HERE}/cases", exist_ok=True)
    compact = dict(ensure_ascii=False, separators=(",", ":"))
    with open(f"{HERE}/cases/{name}.json", "w") as out:  # one case a line
        beside = (f'"tokenizer":"{tokenizer}",' if tokenizer else "") + ('"decoder_only":true,' if decoder_only else "")
        out.write("{" + f'"checkpoint":"{checkpoint}",{beside}' + f'"made_with":"{made_with}",\n"states":[\n')
        out.write(",\n".join(json.dumps(s, **compact) for s in states))
        out.write('\n],"cases":[\n' + ",\n".join(json.dumps(c, **compact) for c in cases) + "\n]}\n")


def report(name, cases, dropped, swaps):
    lengths = collections.Counter(len(s["tokens"]) for c in cases for s in c["sequences"])
    different = len({tuple(s["tokens"]) for c in cases for s in c["sequences"]})
    lost = dropped.total()
    total = len(cases) + lost
    print(f"{name}: {len(cases)} cases kept, {lost} of {total} dropped ({100 * lost / total:.1f} %) {dict(dropped)}; {sum(lengths.values())} "
          f"sequences, {different} different, lengths {min(lengths)} to {max(lengths)} ({len(lengths)} values), "
          f"{swaps} cases whose answers change beams, {os.path.getsize(f'{HERE}/cases/{name}.json') // 1024} KiB", flush=True)
    if lost * 20 >= total:
        sys.exit(f"{name}: 5 % or more dropped: the data is not made to test this")


def add_prefixes(spec, model, sources, longest, cases, dropped):
    """Cases whose answers begin with something; how many change beams."""
    swaps, rng = 0, random.Random(spec["seed"] + 1)
    for parameters, prefix in settings.prefixes(cases, longest):
        made = make_case(model, rng.choice(sources), parameters, prefix)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        cases.append(made[0])
        swaps += made[1]
    return swaps


def add_alternatives(model, cases):
    """Gives some of the cases what else was likely in each token's place: pairs of a token and its log-probability."""
    for case in cases[::CASES_BETWEEN]:
        if "remove_invalid_values" in case["parameters"]:  # which a request cannot have with them
            continue
        best = []
        for sequence in case["sequences"]:
            whole = (case["source"] if model.decoder_only else
                     model.whole_prefix(case["parameters"], case.get("prefix", [])))
            best.append(model.log_softmax(case["source"], whole, sequence["tokens"]).topk(ALTERNATIVES + 1))
        if min((top.values[:, :-1] - top.values[:, 1:]).min().item() for top in best) < LEAST_GAP:
            continue
        for sequence, top in zip(case["sequences"], best):
            sequence["alternatives"] = [
                [[token, float(f"{x:.6g}")] for token, x in zip(tokens[:-1], values[:-1])]
                for tokens, values in zip(top.indices.tolist(), top.values.tolist())]


def add_beginnings(model, beginnings, cases, dropped):
    """Cases whose answers begin with a text, which is a target to be scored as well; how many change beams. beginnings yields the
    case's other fields, the source, the parameters, the prefix's text, its ids, of which the first `begin` are not the text's,
    and what decodes answers."""
    swaps = 0
    for fields, source, parameters, text, ids, begin, decode in beginnings:
        made = make_case(model, source, parameters, ids)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        for sequence in made[0]["sequences"]:
            sequence["text"] = decode(ids[1:] + sequence["tokens"])
        target = ids[begin:] + model.ends[:1]
        cases.append(fields | made[0] | {
            "prefix_text": text, "target_text": text, "target_logprobs": model.logprobs(source, ids[:begin], target)})
        swaps += made[1]
    return swaps


def add_text_rules(model, tokenizer, cases, dropped):
    """Cases with stop strings and bad words that are texts, made of the first greedy answers to texts. `bad_words_ids` are what
    bad_words come to; a sequence that a stop string ended says so."""
    model.tokenizer = tokenizer
    greedy = [c for c in cases if c.get("task") == "summary" and c["parameters"].get("num_beams", 1) == 1
              and not {"prefix_text", "source_language", "target_language"} & c.keys() and len(c["sequences"][0]["text"]) > 12
              and "\ufffd" not in c["sequences"][0]["text"]]
    as_answer = lambda text: tokenizer(**{"text" if model.decoder_only else "text_target": text}, add_special_tokens=False)["input_ids"]
    for case in greedy[:6]:
        answer = case["sequences"][0]["text"]
        middle, word = len(answer) // 2, max(answer.split(), key=len)[:12]
        changes = [{"stop_strings": [answer[middle:middle + 3], "never said"]}, {"stop_strings": [answer[middle + 2:middle + 3]]},
                   {"bad_words": [word], "bad_words_ids": [ids for ids in map(as_answer, (word, " " + word)) if ids]}]
        fields = {k: case[k] for k in ("task", "document", "prompt")}
        for change in changes:
            made = make_case(model, case["source"], case["parameters"] | change)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            for sequence in made[0]["sequences"]:
                sequence["text"] = tokenizer.decode(sequence["tokens"], skip_special_tokens=True)
                if "stop_strings" in change:
                    ids = case["source"] if model.decoder_only else [case["parameters"]["decoder_start_token_id"]]
                    criteria = StopStringCriteria(tokenizer, change["stop_strings"])
                    if sequence["tokens"][-1] not in case["parameters"]["eos_token_id"] and criteria(torch.tensor([ids + sequence["tokens"]]), None):
                        sequence["stopped"] = True
            cases.append(fields | made[0])


def make_tiny(name):
    spec = tiny_checkpoints.CHECKPOINTS[name]
    directory = f"{HERE}/checkpoints/{name}"
    tiny_checkpoints.write_checkpoint(name, directory)
    model, rng = Model(directory, start=2, ends=[2], end=[2]), random.Random(spec["seed"])
    longest, vocab = spec["config"]["max_position_embeddings"], spec["config"]["vocab_size"]
    # Around a page's end (64) and the longest there may be.
    lengths = sorted({n for n in (1, 2, 3, 9, 17, 33, 63, 64, 65, 128, 150, longest - 1, longest) if n <= longest})
    sources = [[2] if n == 1 else [0] + [rng.randrange(5, vocab) for _ in range(n - 2)] + [2] for n in lengths]
    cases, dropped, swaps = [], collections.Counter(), 0
    for parameters in settings.settings(spec, model, vocab, longest):
        for source in rng.sample(sources, spec.get("sources", 3)):
            made = make_case(model, source, parameters)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            cases.append(made[0])
            swaps += made[1]
    swaps += add_prefixes(spec, model, sources, longest, cases, dropped)
    start = spec["generation"]["decoder_start_token_id"]
    add_alternatives(model, cases)
    states = [model.states(next(s for s in sources if len(s) == n), start) for n in spec.get("states", (1, 9, 17))]
    write(name, f"tests/golden/checkpoints/{name}", states, cases)
    report(name, cases, dropped, swaps)


def make_family(name):
    spec = family_checkpoints.CHECKPOINTS[name]
    directory = f"{HERE}/checkpoints/{name}"
    family_checkpoints.write_checkpoint(name, directory)
    model = Model(directory, start=spec["start"], ends=family_checkpoints.ends_of(spec), end=spec["end"])
    rng, longest, vocab = random.Random(spec["seed"]), spec["longest"], spec["config"].vocab_size
    ordinary = range(5, vocab - 12)
    lengths = sorted({n for n in (1, 2, 5, 11, 20, 37, 63, 65, longest - 1, longest) if n <= longest})
    sources = [[rng.choice(ordinary) for _ in range(n - len(spec["end"]))] + spec["end"][:n] for n in lengths]
    cases, dropped, swaps = [], collections.Counter(), 0
    for parameters in settings.settings(spec, model, vocab, longest):
        made = make_case(model, rng.choice(sources), parameters)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        cases.append(made[0])
        swaps += made[1]
    swaps += add_prefixes(spec, model, sources, longest, cases, dropped)
    for text, source, parameters in family_texts.inputs(name, spec, directory, f"{HERE}/tokenizer/{spec['tokenizer']}"):
        made = make_case(model, source, parameters)
        if isinstance(made, str):
            dropped[made] += 1
            continue
        for sequence in made[0]["sequences"]:
            sequence["text"] = text.decode(sequence["tokens"])
        cases.append(text.fields | made[0])
        swaps += made[1]
    swaps += add_beginnings(model, family_texts.beginnings(name, spec, directory, f"{HERE}/tokenizer/{spec['tokenizer']}"), cases,
                            dropped)
    add_text_rules(model, family_texts.load_tokenizer(spec, f"{HERE}/tokenizer/{spec['tokenizer']}"), cases, dropped)
    add_alternatives(model, cases)
    write(name, f"tests/golden/checkpoints/{name}", [], cases, tokenizer=f"tests/golden/tokenizer/{spec['tokenizer']}")
    report(name, cases, dropped, swaps)


def make_decoder_only(name):
    spec = decoder_only_checkpoints.CHECKPOINTS[name]
    directory = f"{HERE}/checkpoints/{name}"
    decoder_only_checkpoints.write_checkpoint(name, directory)
    config, ends = spec["config"], [spec["generation"]["eos_token_id"]]
    model = Model(directory, start=None, ends=ends, end=[])
    rng, longest = random.Random(spec["seed"]), config.n_positions
    liked = model.favourites(config.vocab_size)
    # Around a block's end (16), up to all but one position; half of the tokens are few, so that n-grams of prompts come again.
    lengths = [1, 2, 3, 7, 15, 16, 17, 33, longest - 21, longest - 2, longest - 1]
    prompts = [[rng.choice(liked if rng.random() < 0.5 else range(5, config.vocab_size)) for _ in range(n)] for n in lengths]
    cases, dropped, swaps = [], collections.Counter(), 0

    def keep(fields, source, parameters):
        nonlocal swaps
        made = make_case(model, source, parameters)
        if isinstance(made, str):
            dropped[made] += 1
            return None
        cases.append(fields | made[0])
        swaps += made[1]
        return cases[-1]

    for source, parameters in settings.prompted(spec, liked, longest, prompts, rng):
        keep({}, source, parameters)
    # What a request gets that sets nothing.
    keep({}, prompts[4], {"eos_token_id": ends, "max_length": spec["generation"]["max_length"]})
    tokenizer = AutoTokenizer.from_pretrained(f"{HERE}/tokenizer/{spec['tokenizer']}")
    for document in family_texts.TEXTS:
        prompt = document + "\nTL;DR:"
        source = tokenizer(prompt)["input_ids"]
        for changes in ({}, {"num_beams": 4, "num_return_sequences": 3, "early_stopping": True},
                        {"num_beams": 3, "no_repeat_ngram_size": 2}):
            case = keep({"task": "summary", "document": document, "prompt": prompt}, source,
                        {"eos_token_id": ends, "max_new_tokens": 24} | changes)
            for sequence in case["sequences"] if case else []:
                sequence["text"] = tokenizer.decode(sequence["tokens"], skip_special_tokens=True)
            if case and not changes:
                target = tokenizer(TARGET, add_special_tokens=False)["input_ids"] + ends
                case |= {"target_text": TARGET, "target_logprobs": model.logprobs(source, source, target)}
    add_text_rules(model, tokenizer, cases, dropped)
    add_alternatives(model, cases)
    write(name, f"tests/golden/checkpoints/{name}", [], cases, tokenizer=f"tests/golden/tokenizer/{spec['tokenizer']}",
          decoder_only=True)
    report(name, cases, dropped, swaps)


def make_synopsis():
    directory = f"{ROOT}/models/{SYNOPSIS}"
    model, tokenizer = Model(directory, start=2, ends=[2], end=[2]), AutoTokenizer.from_pretrained(directory)
    own = json.load(open(f"{directory}/generation_config.json"))
    own = {k: own[k] for k in ("decoder_start_token_id", "early_stopping", "length_penalty", "max_length", "min_length",
                               "no_repeat_ngram_size", "num_beams")} | {"eos_token_id": [own["eos_token_id"]]}
    greedy = {k: own[k] for k in ("decoder_start_token_id", "eos_token_id", "max_length")}
    many = own | {"num_beams": 6, "num_return_sequences": 3, "early_stopping": "never", "length_penalty": 0.8}
    del many["min_length"]
    cases, dropped, swaps = [], collections.Counter(), 0
    for text in synopsis_texts.inputs():
        source = tokenizer(text["prompt"])["input_ids"]
        for parameters in (own, greedy, many):
            made = make_case(model, source, parameters)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            case, swapped = made
            swaps += swapped
            for sequence in case["sequences"]:
                sequence["text"] = tokenizer.decode(sequence["tokens"], skip_special_tokens=True)
            cases.append(text | case)
    decode = lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True)
    swaps += add_beginnings(model, synopsis_texts.beginnings(tokenizer, own, greedy, decode), cases, dropped)
    add_text_rules(model, tokenizer, cases, dropped)
    add_alternatives(model, cases)
    write(SYNOPSIS, f"models/{SYNOPSIS}", [], cases)
    report(SYNOPSIS, cases, dropped, swaps)


def main(names):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    make = ({name: make_tiny for name in tiny_checkpoints.CHECKPOINTS} | {name: make_family for name in family_checkpoints.CHECKPOINTS}
            | {name: make_decoder_only for name in decoder_only_checkpoints.CHECKPOINTS})
    for name in names or [*make, SYNOPSIS]:
        make_synopsis() if name == SYNOPSIS else make[name](name)


if __name__ == "__main__":
    main(sys.argv[1:])
