"""Texts for the checkpoints of family_checkpoints.py: documents to summarize or translate, with the families' languages.

The reference is the whole of transformers: its tokenizer of the family (for tokenizer.json, which its class for T5 and Pegasus
would not read literally, the one that does), generate(), and the tokenizer again. The texts have nothing in them that a
SentencePiece model's character map changes: transformers 5's class for mBART leaves the map out, transformers 4's and elserve
do not (tokenizer/ has such texts).
"""
import json
import re

from transformers import AutoTokenizer, PreTrainedTokenizerFast

TEXTS = [
    "The quick brown fox jumps over the dog.",
    "it's what we've said, they're here",
    "numbers 0 1 2 12 and dates",
    "größer, süß, naïve",
    "日本語 and  two\tspaces",
    "a",
]


# What an answer to the text of the same place is to begin with.
BEGINNINGS = ["the dog", "they've said", "12", "größer"]


class Text:
    def __init__(self, tokenizer, fields):
        self.tokenizer, self.fields = tokenizer, fields

    def decode(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


def own_parameters(spec, directory):
    """What a request for a summary gets that sets nothing, and the prefix of its prompt."""
    generation = spec["generation"]
    own = {k: [v] if k in ("eos_token_id", "forced_eos_token_id") and not isinstance(v, list) else v for k, v in generation.items()}
    with open(f"{directory}/config.json") as file:
        task = json.load(file).get("task_specific_params", {}).get("summarization", {})
    return own | {k: v for k, v in task.items() if k != "prefix"}, task.get("prefix", "")


def target_parameters(tokenizer, spec, code):
    """What transformers' users set for a target language."""
    token = tokenizer.convert_tokens_to_ids(code)
    return {"decoder_start_token_id": token} if spec["tokenizer"] == "mbart" else {"forced_bos_token_id": token}


def load_tokenizer(spec, folder):
    if spec["tokenizer"].endswith("-json"):
        return PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    return AutoTokenizer.from_pretrained(folder)


def beginnings(name, spec, directory, folder):
    """What make_golden.add_beginnings takes: with a forced first token and without one."""
    tokenizer = load_tokenizer(spec, folder)
    own, prompt_prefix = own_parameters(spec, directory)
    base = {k: own[k] for k in ("decoder_start_token_id", "eos_token_id")}
    forced = base | {"forced_bos_token_id": 7, "max_new_tokens": 6}
    beams = base | {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 9}
    for document, text in zip(TEXTS, BEGINNINGS):
        prompt = prompt_prefix + document
        source = tokenizer(prompt)["input_ids"]
        labels, plain = (tokenizer(text_target=text, add_special_tokens=a)["input_ids"] for a in (True, False))
        # What stands before labels, but for the source's language.
        begin = [t for t in labels[:labels.index(plain[0])] if not re.fullmatch("[a-z]+_[A-Z]+", tokenizer.convert_ids_to_tokens(t))]
        for parameters in (own, forced, beams):
            bos = parameters.get("forced_bos_token_id")
            before = [parameters["decoder_start_token_id"]] + (begin if bos is None else [bos])
            ids = before + plain
            yield ({"task": "summary", "document": document, "prompt": prompt}, source, parameters, text, ids, len(before),
                   Text(tokenizer, {}).decode)


def inputs(name, spec, directory, folder):
    """Yields (Text, source, parameters). A text with languages has the checkpoint's own parameters beside what they set."""
    tokenizer = load_tokenizer(spec, folder)
    assert len(tokenizer) <= spec["config"].vocab_size
    own, prefix = own_parameters(spec, directory)
    base = {k: own[k] for k in ("decoder_start_token_id", "eos_token_id")}
    beams = base | {"num_beams": 4, "num_return_sequences": 3, "max_length": 28, "early_stopping": True}

    def case(document, prompt, parameters, **languages):
        source = tokenizer(prompt)["input_ids"]
        assert len(source) <= spec["longest"], (name, document, len(source))
        return Text(tokenizer, {"task": "summary", "document": document, "prompt": prompt} | languages), source, parameters

    for document in TEXTS:
        for parameters in (own, base, beams):
            yield case(document, prefix + document, parameters)
    for document in TEXTS[:2]:
        if name.startswith("marian"):
            for code in ("fra", "deu", "zho_Hans"):
                yield case(document, f">>{code}<< {document}", own, target_language=code)
        if name.startswith("mbart"):
            for source, target in (("en_XX", ""), ("fr_XX", "de_DE"), ("de_DE", "en_XX"), ("", "ro_RO")):
                before = tokenizer.src_lang
                tokenizer.src_lang = source or before
                changes = target_parameters(tokenizer, spec, target) if target else {}
                yield case(document, document, own | changes, source_language=source, target_language=target)
                tokenizer.src_lang = before
