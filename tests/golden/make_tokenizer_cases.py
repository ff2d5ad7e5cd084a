#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: what transformers' tokenizers make of hard texts.

Needs an environment with tests/golden/requirements.txt. Run from anywhere:
    python3 tests/golden/make_tokenizer_cases.py
Everything is fixed: a second run writes the same bytes.

odd-json/   a small tokenizer with odd added tokens as tokenizer.json, of the class TokenizersBackend
odd-vocab/  the same as vocab.json, merges.txt and the older files beside them, of the class RobertaTokenizer
gpt2/       vocab.json, merges.txt and no frame, of the class GPT2Tokenizer
gpt2-json/  another one as transformers 5 saves it, which puts a space before a text and its token around it
t5/ ...     the families of tokenizer_families.py
*.json      for each tokenizer: texts with their ids, decoded text and spans, ids with their decoded text, and languages
"""
import json
import pathlib
import random
import shutil
import tempfile

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BartConfig, GPT2Tokenizer

import synopsis_texts
import tokenizer_families as families

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tokenizer"
MODEL = HERE.parent.parent / "models" / "debian-synopsis"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]

CORPUS = """the quick brown fox jumps over the lazy dog and then the other dog jumps over the fox
this package contains the header files and the development libraries that are needed to build programs
it's what we've said, they're here, I'm not, you'll see, he'd know, we can't and won't
les élèves étudient à l'école, où l'été fut très agréable; größer, süß, straße, naïve, façade
Привет мир, это проверка текста на русском языке и ещё немного слов
日本語のテキストを少し。中文文本也有一些。한국어 텍스트도 조금 있습니다
numbers 0 1 2 12 123 2024 3.14 1,000,000 and dates 2024-01-31 at 12:30:45
the new york times, new york and newark; overlap overlapping lapping over
""" * 4

# Overlapping contents, spaces inside and at the edges, white space alone, other scripts, each flag.
ADDED = [
    AddedToken("<mask>", lstrip=True, normalized=False, special=True),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("both", lstrip=True, rstrip=True, single_word=True, normalized=True),
    AddedToken("over", normalized=True),
    AddedToken("overlap", normalized=False),
    AddedToken("lapping", single_word=True, normalized=True),
    AddedToken("new york", single_word=True, normalized=True),
    AddedToken(" x", normalized=False),
    AddedToken("\n", rstrip=True, normalized=False),
    AddedToken("日本", lstrip=True, normalized=False),
    AddedToken("é!", normalized=True),
    AddedToken("<a", normalized=False),
    AddedToken("<a>", normalized=False, special=True),
    AddedToken("<a><b>", normalized=False),
    AddedToken("ÿé", normalized=False),
]

TEXTS = [
    "", " ", "  ", "   ", "\n", "\t", "\r\n", " \n ", "a", " a", "a ", " a ", "  a  b   c    ", "a\n\nb", "a \n b", "\ta\tb\t",
    "Hello, world!", "hello world", "HELLO WORLD", "The quick brown fox jumps over the lazy dog.",
    "it's we're they've I'm you'll he'd can't", "IT'S WE'RE THEY'VE I'M YOU'LL HE'D CAN'T", "it's it\u2019s it`s it''s",
    "'s 't 're 've 'm 'll 'd 'x", "''''", "'", "' s", "don't'll've", "rock 'n' roll", "'tis '90s", "I'M'm'M",
    "a.b,c;d:e!f?g", "...", "!!!???", "--- *** ___", "(a) [b] {c} <d>", "foo_bar-baz", "a/b\\c|d", "100%", "$5.00", "#tag @user",
    "user@example.org", "https://www.debian.org/doc/?a=1&b=2#c", "/usr/lib/x86_64-linux-gnu/libc.so.6", "C:\\Windows\\x",
    "0", "007", "1234567890", "3.14159", "1,000,000", "1e-5", "0xDEADBEEF", "v1.2.3-4~rc1+deb12u1", "a1b2c3", "1a 2b", "٣٤٥", "१२३ ४५",
    "๑๒๓", "Ⅷ ⅷ ½ ² ①", "x² + y₂ = ½", "𝟘𝟙𝟚 𝐀𝐁", "一二三", "〇",
    "e\u0301te\u0301", "été", "a\u0308\u0323", "\u0301", " \u0301", "\u0301a", "Z\u0351\u0321a\u0300l\u0334g\u0335o", "क्षत्रिय", "ก็ที่นี่",
    "\u1100\u1161\u11a8", "각", "👍", "👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "🇩🇪🇫🇷", "1️⃣", "❤️", "a👍b", " 👍 ", "👍👍👍",
    "日本語", "日本語のテキスト", "中文文本。也有", "한국어 텍스트", "Ａｂｃ１２", "カタカナ ひらがな", "𠀀𠀁", "日本 日本", "x日本y",
    "שלום עולם", "مرحبا بالعالم", "\u202eabc\u202c", "\u200fא\u200e", "فارسی\u200cزبان", "Привет, мир!", "Ελληνικά", "ქართული", "አማርኛ", "ᚠᚢᚦ",
    "a\u00a0b", "\u00a0", "\u00a0\u00a0a", "a \u00a0b", "a\u00a0 b", "\u3000全角\u3000", "a\u2003b\u2009c", "a\u2028b\u2029c", "a\u0085b",
    "a\u1680b", "a\u180eb", "\u180e", "a\u200bb", "\ufeffbom", "a\u202fb\u205fc", "a\x0bb\x0cc", "a\x1cb\x1db\x1eb\x1fb", "\x7f", "\x01\x02",
    "\0", "a\0b", "\0\0 \0", "\ufffd", "a\ufffdb", "\ufffd\ufffd", "\ud7ff\ue000", "\ufffe\uffff", "\U00010000", "\U0010ffff", "\U0001f000x",
    "\u1c89\u1c8a", "a\U00010d4a", "1\U00010d40", "\U0002ebf0\U000323af", "\U0001ccf0\U0001e5f1", "\u0378\u0378 a",
    "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<hl>", "<s></s>", "a<s>b", "a <s> b", "<s>a</s>", "<mask> a", "a <mask>", "a  <mask>  b",
    "a\u00a0\u3000<mask>\u2003b", "<mask><mask>", " <mask> <mask> ", "<mask", "mask>", "<<mask>>", "<MASK>", "the <hl> answer <hl> is",
    "a<hl>b", "< hl >", "<hl", "</hl>", "<s", "<s >", "<|endoftext|>",
    "<right>  a", "a<right>\u3000\n b", "<right> <right>  <right>", "both", "a both b", "boths", "aboth", "_both", "\u0301both", "both-both",
    "  both  both  ", "both\u200d", "Ⓐboth", "over", "overlap", "overlapping", "overlaps over", "lapping", "overlapping lapping", "laps lapping.",
    "new york", "a new york b", "new yorks", "anew york", "new  york", "New York", " x", "a x", "a  x", "xx x x", "\n\n\n", "a\n  b", "\n \n x",
    "é!", "étéé!!", "<a", "<a>", "<a><b>", "<a><a><b><b>", "<a <a> <a><", "ÿé", "aÿéb", "é", "日本!", "a  日本", "Ġ", "ĠaĊb", "Â", "Ãł",
    "a" * 70, "ab" * 50, " " * 70, "=" * 80, "é" * 40, "word " * 20, "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "This package contains the header files and development libraries.\n .\n It's used by many programs (e.g. gcc).",
    "generate question: libfoo is <hl> a library <hl> for parsing YAML 1.2.", "tab\tseparated\tvalues\n1\t2\t3\n", "trailing space ", "trailing newline\n",
]

# What hard texts are put together from: spaces of all kinds, control characters, scripts, special tokens, marks.
FRAGMENTS = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u2028", "\u0085", "\x1f", "\x01", "\x7f",
    "\u00ad", "\0", "a", "b", "the", " the", "The quick brown fox", "overlap", "over", "new york", "New York", "both", "it's", "1,234", "½", "①",
    "é", "e\u0301", "a\u0308\u0323", "ﬁn", "ß", "İ", "ſ", "Σς", "Ａｂｃ", "日本", "中文文本", "カ\u3099", "각", "\u1100\u1161\u11a8", "👍🏽", "👨\u200d👩\u200d👧", "☃☃", "☃",
    "ÿ", "Привет", "مرحبا", "क्षि", "\U00010000", "\ufffd", "▁", "▁▁", "▁the", "``", "''", "...", "…", "-", "<", ">>", "<<", ">>fra<<", ">>xyz<<", "<0x41>",
    "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<mask_1>", "<mask_2>", "<unk_7>", "<extra_id_0>", "<extra_id_9>", "<hl>", "<HL>", "<sep>", "en_XX",
    "de_DE", "sw_KE", "ro_RO", "⁇", "library", "development files", "package", "contains", "xx", "zz",
]


def composed(count):
    """Texts of several fragments; most of them with spaces between."""
    rng = random.Random(20240229)
    texts = []
    for i in range(count):
        parts = [rng.choice(FRAGMENTS) for _ in range(rng.randrange(2, 9))]
        texts.append((" " if i % 3 else "").join(parts))
    return texts


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_gpt2(vocab_size):
    """Vocabulary and merges, the end of a text last, as GPT-2 has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    model["vocab"]["<|endoftext|>"] = len(model["vocab"])
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def write_gpt2_form(folder):
    folder.mkdir(parents=True)
    vocab, merges = train_gpt2(400)
    dump(folder / "vocab.json", vocab, separators=(",", ":"))
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}, indent=1)


def write_gpt2_json_form(folder):
    vocab, merges = train_gpt2(330)
    tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges, add_prefix_space=True, add_bos_token=True, pad_token="<pad>",
                              model_max_length=64)
    tokenizer.add_tokens(["over", AddedToken("日本", lstrip=True, normalized=False)])
    tokenizer.save_pretrained(folder)


def dump(path, value, **kwargs):
    path.write_text(json.dumps(value, ensure_ascii=True, **kwargs) + "\n", encoding="utf-8")


def write_json_form(folder, tokenizer):
    folder.mkdir(parents=True)
    tokenizer.add_tokens(ADDED)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<s> $A </s> <mask>", pair="$A $B", special_tokens=[
            (name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>", "<mask>")]),
    ])
    dump(folder / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
    dump(folder / "tokenizer_config.json", {
        "tokenizer_class": "TokenizersBackend", "model_max_length": 512, "bos_token": "<s>", "eos_token": "</s>",
        "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "extra_special_tokens": ["<a>", "<extra>"],
        "hl_token": "<hl>"}, indent=1)


def write_vocab_form(folder, tokenizer):
    folder.mkdir(parents=True)
    model = json.loads(tokenizer.to_str())["model"]
    dump(folder / "vocab.json", model["vocab"], separators=(",", ":"))
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = len(model["vocab"])
    plain = ["<mask>", "over", "overlap", "new york", "日本", "é!", "<a", "<a>"]
    dump(folder / "added_tokens.json", {content: size + i for i, content in enumerate(plain)}, indent=1)
    dump(folder / "special_tokens_map.json", {
        "mask_token": {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False},
        "additional_special_tokens": ["<a>", "<hl>"]}, indent=1)
    dump(folder / "tokenizer_config.json", {
        "tokenizer_class": "BartTokenizer", "add_prefix_space": True, "model_max_length": 1000000000000000019884624838656}, indent=1)


def byte_spans(text, offsets):
    """[b0, e0, b1, e1, ...] in bytes of UTF-8, from the tokenizers library's offsets in characters."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode("utf-8")))
    return [at[i] for pair in offsets for i in pair]


class Library:
    """The tokenizers library itself."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text, special):
        encoding = self.tokenizer.encode(text, add_special_tokens=special)
        return encoding.ids, byte_spans(text, encoding.offsets)

    def decode(self, ids, skip):
        return self.tokenizer.decode([i for i in ids if i < len(self)], skip_special_tokens=skip)

    def __len__(self):
        return self.tokenizer.get_vocab_size(with_added_tokens=True)


class Transformers:
    """A tokenizer of transformers; `spans`: it knows offsets."""

    def __init__(self, tokenizer, spans=True):
        self.tokenizer = tokenizer
        self.spans = spans

    def encode(self, text, special):
        encoding = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=self.spans)
        return encoding["input_ids"], byte_spans(text, encoding["offset_mapping"]) if self.spans else None

    def decode(self, ids, skip):
        return self.tokenizer.decode([i for i in ids if i < len(self)], skip_special_tokens=skip)

    def __len__(self):
        return len(self.tokenizer)


def cases(name, reference, languages=(), answers=None):
    """`answers`: the ids of a text that is an answer, where they are others than a source's."""
    texts = []
    whole, bare = reference.encode("a", True)[0], reference.encode("a", False)[0]
    before = next(i for i in range(len(whole)) if whole[i:i + len(bare)] == bare)
    after = len(whole) - len(bare) - before
    for text in dict.fromkeys(TEXTS + composed(75)):
        ids, spans = reference.encode(text, True)
        skipped, whole = reference.decode(ids, True), reference.decode(ids, False)
        # null: as what stands before, to keep the files small.
        bare = reference.encode(text, False)[0]
        framed = bare == ids[before:len(ids) - after]
        texts.append([text, ids, None if framed else bare, None if skipped == text else skipped,
                      None if whole == skipped else whole, spans])
    # Ids that no text gives: characters cut in two, bytes in any order, ids beyond the vocabulary.
    rng = random.Random(20240131)
    decodes = []
    for i in range(60):
        ids = [rng.randrange(min(len(reference) + 3, 270 if i % 2 else 1 << 30)) for _ in range(rng.randrange(1, 24))]
        decodes.append([ids, reference.decode(ids, True), reference.decode(ids, False)])
    # What decoding skips: not quite all_special_tokens, which also names tokens that were added as plain ones. A token
    # may decode to nothing alone, so another one stands before it.
    first = reference.encode("a", False)[0]
    special = [i for i in range(len(reference)) if reference.decode(first + [i] + first, True) != reference.decode(first + [i] + first, False)]
    head = {"made_by": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
            "length": len(reference), "special": special, "before": before, "after": after}
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in texts)
    decode_lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in decodes)
    language_lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in languages)
    answer_lines = ",\n".join(json.dumps(answers(case[0]), separators=(",", ":")) for case in texts) if answers else ""
    (OUT / f"{name}.json").write_text(json.dumps(head)[:-1] + f',\n"texts":[\n{lines}],\n"decodes":[\n{decode_lines}],'
                                      f'\n"languages":[\n{language_lines}],\n"answers":[\n{answer_lines}]}}\n', encoding="utf-8")
    print(f"{name}: {len(texts)} texts, {len(decodes)} id lists, {len(languages)} with languages")


def family_cases():
    corpus = [line for line in CORPUS.splitlines() if line] + synopsis_texts.SUMMARIES * 4
    with tempfile.TemporaryDirectory() as folder:
        tsv = pathlib.Path(folder) / "rules.tsv"
        families.write_rules(tsv)
        cases("t5", Library(families.t5(OUT / "t5", corpus)))
        cases("t5-json", Library(families.t5_json(OUT / "t5-json", corpus, tsv)))
        cases("pegasus", Library(families.pegasus(OUT / "pegasus", corpus, tsv, OUT / "pegasus-json")))
        for name, fifty in (("mbart", False), ("mbart50", True)):
            as_json = None if fifty else OUT / "mbart-json"
            tokenizer, with_source, codes = families.mbart(OUT / name, corpus, tsv, as_json, fifty)
            source = "en_XX" if fifty else "de_DE"
            languages = [[code, "", "over the fox", with_source(code).encode("over the fox").ids] for code in codes]
            with_source(source)
            cases(name, Library(tokenizer), languages)
        for name, model_type in (("marian", "unigram"), ("marian-bpe", "bpe")):
            tokenizer = families.marian(OUT / name, corpus, tsv, model_type)
            languages = [["", code, text, tokenizer(f">>{code}<< {text}")["input_ids"]]
                         for code in ("fra", "deu", "zho_Hans") for text in ("over the fox", " a", "<unk> b")]
            cases(name, Transformers(tokenizer, spans=False), languages,
                  answers=lambda text: tokenizer(text_target=text, add_special_tokens=False)["input_ids"])
        cases("bpe-json", Library(families.bpe_json(OUT / "bpe-json", corpus)))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    tokenizer = train()
    write_vocab_form(OUT / "odd-vocab", tokenizer)
    write_json_form(OUT / "odd-json", tokenizer)
    for folder, name in ((MODEL, "debian-synopsis"), (OUT / "odd-json", "odd-json"), (OUT / "odd-vocab", "odd-vocab")):
        cases(name, Transformers(AutoTokenizer.from_pretrained(folder, config=BartConfig())))
    write_gpt2_form(OUT / "gpt2")
    write_gpt2_json_form(OUT / "gpt2-json")
    for name in ("gpt2", "gpt2-json"):
        cases(name, Transformers(AutoTokenizer.from_pretrained(OUT / name)))
    family_cases()


if __name__ == "__main__":
    main()
