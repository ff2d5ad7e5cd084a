"""Which decoding parameters the golden cases use: for each checkpoint about 150 settings, under transformers' names."""
import random

# Of one hypothesis, {} being the defaults. "A", "B": ids of the checkpoint, see settings(). Lengths suit the shortest
# checkpoint (48 positions).
GREEDY = [
    {},
    {"max_length": 45},
    {"max_length": 2},
    {"max_length": 3},
    {"max_length": 18},
    {"max_new_tokens": 33},
    {"max_new_tokens": 1},
    {"max_length": 30, "min_length": 12},
    {"max_new_tokens": 25, "min_new_tokens": 9},
    {"max_new_tokens": 25, "min_new_tokens": 4, "min_length": 20},
    {"max_length": 32, "no_repeat_ngram_size": 1},
    {"max_length": 40, "no_repeat_ngram_size": 2},
    {"max_length": 40, "no_repeat_ngram_size": 3, "min_length": 25},
    {"max_length": 40, "no_repeat_ngram_size": 4, "eos_token_id": []},
    {"max_length": 20, "forced_bos_token_id": "A"},
    {"max_length": 12, "forced_eos_token_id": ["EOS"]},
    {"max_length": 12, "forced_eos_token_id": ["A", "B"]},
    {"max_length": 20, "decoder_start_token_id": "A"},
    {"max_length": 20, "eos_token_id": []},
    {"max_length": 30, "eos_token_id": ["EOS", "A", "B"]},
]
BEAMS = [
    {"num_beams": 2},
    {"num_beams": 3, "max_length": 40},
    {"num_beams": 4, "max_new_tokens": 40},
    {"num_beams": 5, "max_length": 30},
    {"num_beams": 6, "max_length": 26},
    {"num_beams": 7, "max_length": 16},
    {"num_beams": 8, "max_length": 35},
    {"num_beams": 2, "num_return_sequences": 2, "max_length": 25},
    {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True},
    {"num_beams": 4, "num_return_sequences": 2, "early_stopping": "never"},
    {"num_beams": 8, "num_return_sequences": 5, "early_stopping": True, "max_length": 30},
    {"num_beams": 4, "num_return_sequences": 4, "max_length": 2},
    {"num_beams": 4, "num_return_sequences": 4, "max_length": 3},
    {"num_beams": 4, "length_penalty": -1.5},
    {"num_beams": 4, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 3, "length_penalty": -0.5, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 0.0},
    {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never", "num_return_sequences": 3},
    {"num_beams": 5, "length_penalty": 0.0, "early_stopping": True, "max_length": 40},
    {"num_beams": 4, "length_penalty": 0.6, "max_length": 40},
    {"num_beams": 4, "length_penalty": 2.0, "max_length": 40},
    {"num_beams": 4, "length_penalty": 2.0, "max_length": 40, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 2.0, "max_length": 40, "early_stopping": "never", "num_return_sequences": 4},
    {"num_beams": 2, "length_penalty": 5.0, "max_length": 30, "early_stopping": "never"},
    {"num_beams": 6, "early_stopping": True, "max_length": 45, "num_return_sequences": 6},
    {"num_beams": 6, "early_stopping": "never", "max_length": 45},
    {"num_beams": 3, "max_length": 30, "min_length": 12},
    {"num_beams": 4, "max_length": 30, "min_length": 29, "num_return_sequences": 2},
    {"num_beams": 4, "max_new_tokens": 25, "min_new_tokens": 9},
    {"num_beams": 5, "max_new_tokens": 20, "min_new_tokens": 3, "min_length": 15, "early_stopping": True},
    {"num_beams": 4, "no_repeat_ngram_size": 1, "max_length": 24, "num_return_sequences": 2},
    {"num_beams": 4, "no_repeat_ngram_size": 2, "max_length": 40},
    {"num_beams": 4, "no_repeat_ngram_size": 3, "max_length": 45, "early_stopping": True, "min_length": 20},
    {"num_beams": 8, "no_repeat_ngram_size": 3, "max_length": 40, "eos_token_id": []},
    {"num_beams": 3, "no_repeat_ngram_size": 4, "max_length": 45, "eos_token_id": [], "num_return_sequences": 2},
    {"num_beams": 4, "forced_bos_token_id": "A", "max_length": 24},
    {"num_beams": 8, "forced_bos_token_id": "A", "max_length": 24, "num_return_sequences": 3, "no_repeat_ngram_size": 2},
    {"num_beams": 4, "forced_bos_token_id": "EOS", "max_length": 12, "eos_token_id": ["B"]},
    {"num_beams": 4, "forced_eos_token_id": ["EOS"], "max_length": 10, "num_return_sequences": 2},
    {"num_beams": 4, "forced_eos_token_id": ["A", "EOS"], "max_length": 9, "num_return_sequences": 4},
    {"num_beams": 5, "forced_eos_token_id": ["A", "B"], "max_length": 14, "early_stopping": "never"},
    {"num_beams": 4, "forced_bos_token_id": "B", "forced_eos_token_id": ["EOS"], "max_length": 20, "length_penalty": 2.0,
     "min_length": 6, "no_repeat_ngram_size": 3, "early_stopping": True},
    {"num_beams": 4, "decoder_start_token_id": "A", "max_length": 24},
    {"num_beams": 3, "decoder_start_token_id": "B", "forced_bos_token_id": "A", "max_length": 24, "num_return_sequences": 3},
    {"num_beams": 4, "eos_token_id": [], "max_length": 20, "num_return_sequences": 4},
    {"num_beams": 4, "eos_token_id": ["EOS", "A", "B"], "max_length": 30, "num_return_sequences": 2},
    {"num_beams": 2, "eos_token_id": ["A", "B"], "max_length": 40, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 8, "eos_token_id": ["EOS", "A", "B", "C", "D"], "max_length": 30, "early_stopping": True,
     "num_return_sequences": 8},
    {"num_beams": 5, "eos_token_id": ["EOS", "A", "B", "C", "D"], "max_length": 26, "min_length": 8, "length_penalty": 0.0},
]
# Words that may not come, of one token and of several, the start token in one of them; and scores that are made probabilities
# again after the rules, where they matter (forced ends, banned tokens).
RULES = [
    {"max_length": 24, "bad_words_ids": [["A"]]},
    {"max_length": 24, "bad_words_ids": [["A", "B"], ["C"], ["EOS"]]},
    {"max_length": 24, "bad_words_ids": [["START", "A"], ["A", "A"], ["B", "C", "D"]], "renormalize_logits": True},
    {"max_length": 30, "renormalize_logits": True, "no_repeat_ngram_size": 2},
    {"num_beams": 4, "max_length": 24, "bad_words_ids": [["A"], ["B"]]},
    {"num_beams": 4, "max_length": 24, "bad_words_ids": [["A", "B"], ["B", "A"], ["C", "EOS"]], "num_return_sequences": 3},
    {"num_beams": 3, "max_length": 24, "bad_words_ids": [["START", "A"], ["START", "B"], ["A", "A", "A"]], "num_return_sequences": 2},
    {"num_beams": 4, "max_length": 24, "bad_words_ids": [["A"], ["B"], ["C"]], "renormalize_logits": True, "num_return_sequences": 2},
    {"num_beams": 5, "max_length": 30, "renormalize_logits": True, "no_repeat_ngram_size": 1, "num_return_sequences": 2},
    {"num_beams": 4, "max_length": 30, "renormalize_logits": True, "min_length": 12, "no_repeat_ngram_size": 3, "length_penalty": 2.0},
    {"num_beams": 4, "max_length": 9, "renormalize_logits": True, "forced_eos_token_id": ["A", "B"], "num_return_sequences": 2},
    {"num_beams": 3, "max_length": 20, "renormalize_logits": True, "forced_bos_token_id": "A", "bad_words_ids": [["A", "B"], ["C"]],
     "num_return_sequences": 2},
]

# What the hypothesis or the source has already is more or less likely, or banned.
PENALTIES = [
    {"max_length": 30, "repetition_penalty": 1.3},
    {"max_length": 30, "repetition_penalty": 0.8},
    {"max_length": 30, "encoder_repetition_penalty": 1.5},
    {"max_length": 30, "encoder_repetition_penalty": 0.7, "repetition_penalty": 1.2},
    {"max_length": 30, "encoder_no_repeat_ngram_size": 1},
    {"max_length": 30, "encoder_no_repeat_ngram_size": 2, "no_repeat_ngram_size": 3},
    {"max_length": 24, "suppress_tokens": ["A", "B"]},
    {"max_length": 24, "begin_suppress_tokens": ["A", "EOS"]},
    {"max_length": 20, "forced_bos_token_id": "A", "begin_suppress_tokens": ["B", "C"]},
    {"max_length": 24, "repetition_penalty": 2.0, "renormalize_logits": True, "min_length": 9},
    {"num_beams": 4, "max_length": 30, "repetition_penalty": 1.4},
    {"num_beams": 2, "max_length": 30, "repetition_penalty": 0.9, "num_return_sequences": 2},
    {"num_beams": 3, "max_length": 30, "encoder_repetition_penalty": 1.3, "num_return_sequences": 2},
    {"num_beams": 4, "max_length": 30, "encoder_no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 4, "max_length": 30, "encoder_no_repeat_ngram_size": 1, "encoder_repetition_penalty": 0.5},
    {"num_beams": 5, "max_length": 24, "suppress_tokens": ["A", "B", "C"], "begin_suppress_tokens": ["D"], "num_return_sequences": 3},
    {"num_beams": 4, "max_length": 30, "repetition_penalty": 1.2, "encoder_repetition_penalty": 0.8, "no_repeat_ngram_size": 2,
     "min_length": 12, "bad_words_ids": [["A", "B"], ["C"]]},
    {"num_beams": 3, "max_length": 24, "repetition_penalty": 1.5, "renormalize_logits": True, "length_penalty": 2.0},
    {"num_beams": 4, "max_length": 20, "forced_bos_token_id": "A", "begin_suppress_tokens": ["B"], "suppress_tokens": ["C"],
     "num_return_sequences": 2},
    {"num_beams": 6, "max_length": 40, "repetition_penalty": 1.1, "encoder_no_repeat_ngram_size": 3, "early_stopping": "never"},
]

# What is added to values, EOS that grows likely, numbers that are none; and sampling that leaves one token to be drawn.
BIASES = [
    {"max_length": 24, "sequence_bias": [[["A"], -4.0], [["B", "C"], 5.0]]},
    {"max_length": 24, "sequence_bias": [[["A"], 6.0], [["A", "A"], -20.0], [["START", "B"], 3.5]], "repetition_penalty": 1.3},
    {"max_length": 30, "exponential_decay_length_penalty": [3, 1.2]},
    {"max_length": 30, "exponential_decay_length_penalty": [0, 0.8], "min_length": 6},
    {"max_length": 30, "exponential_decay_length_penalty": [5, 1.5], "eos_token_id": ["EOS", "A"], "suppress_tokens": ["A"]},
    {"max_length": 24, "remove_invalid_values": True, "no_repeat_ngram_size": 2, "min_length": 12},
    {"num_beams": 4, "max_length": 24, "sequence_bias": [[["A"], -4.0], [["B", "C"], 5.0], [["START", "D"], 3.0]],
     "num_return_sequences": 2},
    {"num_beams": 3, "max_length": 30, "exponential_decay_length_penalty": [2, 1.1]},
    {"num_beams": 4, "max_length": 30, "exponential_decay_length_penalty": [4, 1.05], "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 4, "max_length": 24, "remove_invalid_values": True, "bad_words_ids": [["A"]], "forced_eos_token_id": ["EOS"]},
    {"num_beams": 3, "max_length": 20, "remove_invalid_values": True, "forced_bos_token_id": "A", "suppress_tokens": ["B"],
     "renormalize_logits": True},
    {"num_beams": 4, "max_length": 24, "sequence_bias": [[["EOS"], 2.0]], "exponential_decay_length_penalty": [3, 0.9],
     "renormalize_logits": True, "num_return_sequences": 3},
]
SAMPLED = [
    {"max_length": 24, "do_sample": True, "top_k": 1},
    {"max_length": 24, "do_sample": True, "top_k": 1, "temperature": 1.7, "repetition_penalty": 1.4, "min_length": 10},
    {"max_length": 24, "do_sample": True, "top_k": 0, "top_p": 0.0001, "no_repeat_ngram_size": 2},
    {"max_length": 24, "do_sample": True, "top_k": 0, "min_p": 1.0, "suppress_tokens": ["A"]},
    {"max_length": 24, "do_sample": True, "top_k": 0, "epsilon_cutoff": 0.9999, "sequence_bias": [[["A"], 4.0]]},
    {"max_length": 24, "do_sample": True, "top_k": 0, "eta_cutoff": 0.9999, "temperature": 0.001, "forced_bos_token_id": "A"},
    {"max_length": 24, "do_sample": True, "top_k": 5, "top_h": 0.0001, "renormalize_logits": True, "eos_token_id": []},
    {"max_length": 24, "do_sample": True, "temperature": 0.00001, "typical_p": 0.5, "remove_invalid_values": True},
]
# Groups of beams; make_diverse.py takes these.
DIVERSE = [
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "max_length": 24, "num_return_sequences": 4},
    {"num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 0.5, "max_length": 24, "num_return_sequences": 4},
    {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 2.5, "max_length": 30, "num_return_sequences": 3, "early_stopping": True},
    {"num_beams": 6, "num_beam_groups": 2, "diversity_penalty": 0.3, "max_length": 40, "num_return_sequences": 6, "length_penalty": 2.0,
     "early_stopping": "never"},
    {"num_beams": 8, "num_beam_groups": 4, "diversity_penalty": 1.0, "max_length": 20, "num_return_sequences": 2,
     "no_repeat_ngram_size": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.5, "max_length": 24, "num_return_sequences": 4,
     "renormalize_logits": True, "bad_words_ids": [["A"]]},
    {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 10.0, "max_length": 24, "num_return_sequences": 2,
     "repetition_penalty": 1.3},
    {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7, "max_length": 30, "num_return_sequences": 6,
     "eos_token_id": ["EOS", "A", "B"]},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "max_length": 20, "num_return_sequences": 2,
     "forced_bos_token_id": "A", "min_length": 9},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.2, "max_length": 16, "num_return_sequences": 4,
     "forced_eos_token_id": ["EOS"], "length_penalty": 0.0},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.8, "max_length": 18, "num_return_sequences": 4, "eos_token_id": []},
    {"num_beams": 9, "num_beam_groups": 3, "diversity_penalty": 0.4, "max_length": 36, "num_return_sequences": 9, "length_penalty": -1.0},
]
# Some of these at once.
CHOICES = [
    ("num_beams", [2, 3, 4, 5, 6]), ("num_beams", [4]), ("length_penalty", [0.0, 2.0]), ("early_stopping", [True, "never"]),
    ("repetition_penalty", [0.8, 1.2, 1.6]), ("encoder_repetition_penalty", [0.7, 1.4]), ("no_repeat_ngram_size", [1, 2, 3]),
    ("encoder_no_repeat_ngram_size", [1, 2]), ("bad_words_ids", [[["A"]], [["A", "B"], ["C"]]]), ("min_length", [8, 15]),
    ("min_new_tokens", [6, 11]), ("suppress_tokens", [["B"], ["A", "C"]]), ("begin_suppress_tokens", [["A", "EOS"]]),
    ("sequence_bias", [[[["A"], 3.0], [["EOS"], -2.0]], [[["B", "A"], 4.0], [["D"], 2.5]]]),
    ("exponential_decay_length_penalty", [[4, 1.1], [6, 0.9]]), ("renormalize_logits", [True]), ("remove_invalid_values", [True]),
    ("forced_bos_token_id", ["A"]), ("forced_eos_token_id", [["EOS"], ["A", "B"]]),
]


def combinations(count):
    """So many settings of two to four parameters each."""
    rng = random.Random(14)
    for _ in range(count):
        chosen = {name: rng.choice(values) for name, values in rng.sample(CHOICES, rng.randrange(2, 5))}
        if chosen.get("num_beams", 1) == 1:
            chosen.pop("length_penalty", None), chosen.pop("early_stopping", None)
        yield {"max_length": rng.randrange(14, 36)} | chosen


ADDED = BIASES + SAMPLED + list(combinations(24))


def settings(checkpoint, model, vocab, longest):
    """Yields parameters with every id resolved. Nothing is left to the checkpoint's own defaults but the start and the ends."""
    generation = checkpoint["generation"]
    ends = generation["eos_token_id"]
    ends = ends if isinstance(ends, list) else [ends]
    # Ids that the model likes, so that a list of ends is really met: the heads of its most frequent answers.
    ids = {"EOS": ends[0], "START": generation["decoder_start_token_id"]} | dict(zip("ABCD", model.favourites(vocab)))

    def resolve(value):
        return [resolve(v) for v in value] if isinstance(value, list) else ids.get(value, value)

    own = dict(generation, eos_token_id=ends)
    if "forced_eos_token_id" in own:
        own["forced_eos_token_id"] = [own["forced_eos_token_id"]]
    long = {"max_length": longest, "eos_token_id": []}
    for changes in GREEDY + BEAMS + [own, long, long | {"num_beams": 3, "no_repeat_ngram_size": 3}] + RULES + PENALTIES + ADDED:
        base = {"decoder_start_token_id": generation["decoder_start_token_id"], "eos_token_id": ends}
        yield base | {k: resolve(v) for k, v in changes.items()}


# How many tokens of an earlier answer come first, and whether the start token stands before them; and what differs. "NEXT":
# the token that followed there.
PREFIXES = [
    (1, True, {"max_length": 20}),
    (2, False, {"max_new_tokens": 12}),
    (5, True, {"max_length": 24, "min_length": 14}),
    (7, False, {"max_length": 30, "no_repeat_ngram_size": 2}),
    (3, False, {"max_new_tokens": 10, "min_new_tokens": 6}),
    (4, True, {"max_length": 16, "bad_words_ids": [["LAST", "NEXT"], ["NEXT"]]}),
    (0, True, {"max_length": 14, "forced_bos_token_id": "NEXT"}),
    (3, False, {"max_length": 14, "forced_bos_token_id": "NEXT"}),
    (6, False, {"max_length": 9, "forced_eos_token_id": ["NEXT"]}),
    (2, True, {"num_beams": 4, "max_length": 24}),
    (5, False, {"num_beams": 4, "max_length": 24, "length_penalty": 2.0, "early_stopping": "never", "num_return_sequences": 3}),
    (6, True, {"num_beams": 3, "max_new_tokens": 14, "length_penalty": -1.0, "early_stopping": True}),
    (9, False, {"num_beams": 5, "max_length": 30, "no_repeat_ngram_size": 3, "min_length": 18, "num_return_sequences": 2}),
    (1, False, {"num_beams": 4, "max_length": 20, "forced_bos_token_id": "NEXT", "length_penalty": 0.0}),
    (4, True, {"num_beams": 4, "max_length": 6, "num_return_sequences": 4}),
    (8, False, {"num_beams": 2, "max_new_tokens": 1, "num_return_sequences": 2}),
    (None, False, {"num_beams": 2, "num_return_sequences": 2}),
]


def prefixes(cases, longest):
    """Yields parameters and decoder_input_ids, made of answers that the checkpoint has given: likely ones to go on from."""
    answers = sorted((c for c in cases if len(c["sequences"][0]["tokens"]) > 11), key=lambda c: str(c["source"]))
    for i, (count, with_start, changes) in enumerate(PREFIXES):
        answer = answers[i * len(answers) // len(PREFIXES)]
        tokens, start = answer["sequences"][0]["tokens"], answer["parameters"]["decoder_start_token_id"]
        if count is None:  # all but the last two places
            tokens, count = (tokens * longest)[:longest], longest - 3
            changes = changes | {"max_length": longest}
        ids = {"NEXT": tokens[count], "LAST": tokens[count - 1] if count else start}

        def resolve(value):
            return [resolve(v) for v in value] if isinstance(value, list) else ids.get(value, value)

        base = {"decoder_start_token_id": start, "eos_token_id": answer["parameters"]["eos_token_id"]}
        yield base | {k: resolve(v) for k, v in changes.items()}, ([start] if with_start else []) + tokens[:count]


def prompted(checkpoint, liked, longest, prompts, rng):
    """Yields (prompt, parameters) of a decoder-only model. Lengths count the prompt, and START is the prompt's last token: a
    setting means after a prompt of one token what it means after a decoder's start. Every third setting has such a prompt, and
    so has each that forces the first token, which is done behind one token alone."""
    ends = [checkpoint["generation"]["eos_token_id"]]
    long = {"max_length": longest, "eos_token_id": []}
    all_settings = [s for s in GREEDY + BEAMS + RULES + PENALTIES + ADDED if "decoder_start_token_id" not in s]
    for index, changes in enumerate(all_settings + [long, long | {"num_beams": 3, "no_repeat_ngram_size": 3}]):
        new_tokens = changes.get("max_new_tokens", changes.get("max_length", 21) - 1)
        # A max_length of all positions is what it is, whatever the prompt.
        whole = changes.get("max_length") == longest
        fit = [p for p in prompts if whole or len(p) + new_tokens <= longest]
        forced = "forced_bos_token_id" in changes
        chosen = [prompts[0]] if forced or index % 3 == 0 else []
        if forced or not chosen:
            chosen.append(rng.choice(fit[1:]))
        for prompt in chosen:
            ids = {"EOS": ends[0], "START": prompt[-1]} | dict(zip("ABCD", liked))

            def resolve(key, value):
                if key in ("max_length", "min_length") and not whole:
                    return value + len(prompt) - 1
                return [resolve(key, v) for v in value] if isinstance(value, list) else ids.get(value, value)

            yield prompt, {"eos_token_id": ends} | {k: resolve(k, v) for k, v in changes.items()}
