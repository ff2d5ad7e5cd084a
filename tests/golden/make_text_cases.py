"""Golden cases of the parts that tokenizers are made of: models, normalizers, SentencePiece files.

The vocabularies are trained on the texts of this repository; what they answer comes from the tokenizers and
sentencepiece packages. tests/golden/README.md says what is in the files.
"""

import json
import pathlib
import random

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers
from transformers.tokenization_utils_base import generate_merges

import make_tokenizer_cases
import synopsis_texts

HERE = pathlib.Path(__file__).parent
OUT = HERE / "text"
ROOT = HERE.parent.parent
MADE_BY = f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}"

# What the tiny character map does: characters and sequences to others, to several, to nothing; sequences that begin
# with a character that has a rule of its own; ASCII; an emoji.
RULES = [
    ("\t", " "), ("\n", " "), ("\u00a0", " "), ("\u3000", " "), ("\u2009", " "), ("\u200b", ""), ("\u0001", ""), ("\u00ad", ""),
    ("ﬁ", "fi"), ("ﬃ", "ffi"), ("™", "TM"), ("…", "..."), ("½", "1/2"), ("①", "1"), ("Ａ", "A"), ("ａ", "a"), ("！", "!"),
    ("e\u0301", "é"), ("e\u0308", "ë"), ("o\u0308\u0304", "ȫ"), ("A\u030a", "Å"), ("\u212b", "Å"), ("\u0345", "ι"), ("¨", " ̈"),
    ("か\u3099", "が"), ("ｶ\uff9e", "ガ"), ("ｶ", "カ"), ("\u1100\u1161", "가"), ("㌀", "アパート"), ("Q", "q"), ("Q\u0301", "Q'"),
    ("\r", " "), ("\u0600", "#"), ("👍", "+1"), ("\u200d", ""), ("İ", "i"), ("\u2028", " "), ("\ufeff", ""), ("x\u0338", "≭"),
]

ODD = [
    "", " ", "  ", "\t", "\n", "\r\n", "a\r\nb", "\0", "a\0b", "\u0001", "a\u0001b", "\u0001a", "\u007f", "a b", " a", "a ", "  a  b  ", "a\u00a0b", "\u3000a\u3000",
    "a\u2009b\u200bc", "é", "e\u0301", "e\u0301\u0308", "e\u0308\u0301x", "\u0301", "\u0301a", "o\u0308\u0304", "o\u0304\u0308", "A\u030a\u0327", "Å", "Ångström", "İstanbul", "ǅ", "ß", "ẞ", "ΑΣ Σ", "ŉ",
    "ﬁne ﬃ", "™…½①", "Ａａ！", "¨", "¨\u0301", "か\u3099", "がぎ", "ｶﾞ", "ｶﾞｶ", "\u1100\u1161", "\u1100\u1161\u11a8", "각", "㌀㍑", "Q", "Q\u0301", "Qq\u0301", "x\u0338\u0301", "\u0600a", "\u0600Q", "\u0600",
    "👍", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪🇫🇷🇪", "❤️", "1️⃣", "©\u200d©", "🐧!", "नमस्ते", "क्षि", "தமிழ்", "ไทยนี้", "ບໍ່", "العربية ؀١", "עִבְרִית", "\u0f73\u0f71", "\u0344", "ﷺ", "ﷲ", "㋿", "ꟲ", "\U00011938",
    "\U0001F1E6", "\ufffd", "\ufeffa", "\ufffe", "\U0010FFFF", "\ue000", "\u00ad", "co\u00adop", "a\u0300\u0315\u0323b", "\u212b\u2126", "ſ\u0307\u0323", "ﬀ\u0301", "\U0001D160", "\U0002F800", "豈", "ｶ\u3099",
    "日本語のテキスト", "中文字符", "한국어 텍스트", "Ελληνικά", "Русский ёж", "Ёлка й", "Tiếng Việt", "naïve café", "Zażółć gęślą jaźń", "œuvre", "a" * 40, "ab" * 20, "=" * 30, "▁" * 5, "▁▁a▁", "▁a b", "<unk>", "<s>a</s>", "<0x41>", "a<unk>b",
    "http://www.example.org/a_b?c=d&e=%20f#g", "1,234,567.89", "(a+b)*c-d/e", "\"quoted\" 'text'", "``quoted''", "tab\tseparated\tvalues", "line\nbreak\n\n\nend", " \n \r\n\t ", "C++20", "user@example.org", "ÀÁÂÃÄÅ àáâãäå",
]

POOLS = [(0x20, 0x7f), (0xa0, 0x180), (0x300, 0x370), (0x370, 0x400), (0x400, 0x460), (0x5d0, 0x5eb), (0x620, 0x650), (0x900, 0x980), (0xe00, 0xe50), (0x1100, 0x1200), (0x2000, 0x2070),
         (0x2100, 0x2200), (0x3040, 0x3100), (0x4e00, 0x4e80), (0xac00, 0xac80), (0xfb00, 0xfb07), (0xff01, 0xffa0), (0x1f300, 0x1f360), (1, 0x20), (0x1e00, 0x1f00)]


def corpus():
    """Texts of this repository that stay as they are."""
    lines = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines() + make_tokenizer_cases.CORPUS.splitlines()
    lines += [i["prompt"] for i in synopsis_texts.inputs()]
    return [line.strip() for line in lines if line.strip()]


def random_texts(count, seed):
    rng = random.Random(seed)
    words = " ".join(corpus()).split()
    texts = []
    for i in range(count):
        parts = []
        for _ in range(rng.randrange(1, 5)):
            if rng.random() < 0.5:
                parts.append(rng.choice(words))
            else:
                low, high = rng.choice(POOLS)
                parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 6))))
        texts.append(rng.choice(["", " ", "  "]).join(parts))
    return texts


def texts(count, seed):
    return list(dict.fromkeys(ODD + random_texts(max(count - len(ODD), 0), seed)))


def write(name, head, cases):
    OUT.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in cases)
    text = json.dumps({"made_by": MADE_BY, **head}, separators=(",", ":"), ensure_ascii=False)[:-1] + ',\n"cases":[\n' + lines + "]}\n"
    (OUT / name).write_text(text, encoding="utf-8")
    print(f"{name}: {len(cases)} cases, {len(text.encode())} bytes")


def train(name, **kwargs):
    """A SentencePiece model, with the character map above, as NAME.model."""
    rules = OUT / "rules.tsv"
    rules.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_prefix=str(OUT / name), normalization_rule_tsv=str(rules),
                                             num_threads=1, minloglevel=2, hard_vocab_limit=False, character_coverage=0.998, **kwargs)
    rules.unlink()
    (OUT / f"{name}.vocab").unlink()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((OUT / f"{name}.model").read_bytes())
    # Where the trainer read and wrote is nobody's business.
    for field in ("input", "model_prefix"):
        proto.trainer_spec.ClearField(field)
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    proto.denormalizer_spec.Clear()
    (OUT / f"{name}.model").write_bytes(proto.SerializeToString(deterministic=True))
    return proto


def tokens(model, text):
    """id and end of each token, in bytes of the text, one after the other. It begins where the one before ends, or, if
    both end at the same place, begins."""
    answer = []
    before = (0, 0)
    for token in model.tokenize(text):
        assert token.offsets[0] == before[0 if token.offsets[1] == before[1] else 1]
        before = token.offsets
        answer += [token.id, token.offsets[1]]
    return answer


def escaped(text):
    return text.replace(" ", "▁")


def unigram_cases(name, proto):
    model = models.Unigram([(p.piece, p.score) for p in proto.pieces], proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback)
    raw = sentencepiece_model_pb2.ModelProto()
    raw.CopyFrom(proto)
    raw.normalizer_spec.Clear()
    for field in ("add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        setattr(raw.normalizer_spec, field, False)
    processor = sentencepiece.SentencePieceProcessor(model_proto=raw.SerializeToString())
    # A text, tokens of the tokenizers library, ids of SentencePiece where they are others.
    cases = []
    for text in map(escaped, texts(320, 1)):
        answer = tokens(model, text)
        ids = processor.encode(text)
        cases.append([text, answer] if ids == answer[::2] else [text, answer, ids])
    write(f"{name}.json", {"model": f"{name}.model"}, cases)


def bpe_cases(name, proto):
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    merges = generate_merges(vocab)
    settings = [dict(fuse_unk=f, byte_fallback=b, ignore_merges=i) for f, b, i in
                ((True, True, False), (False, False, False), (True, True, True))]
    made = [models.BPE(vocab, merges, unk_token="<unk>", **s) for s in settings]
    cases = []
    for text in map(escaped, texts(320, 2)):
        answers = [tokens(model, text) for model in made]
        # null: as the first.
        cases.append([text, answers[0]] + [None if answer == answers[0] else answer for answer in answers[1:]])
    write(f"{name}.json", {"model": f"{name}.model", "settings": settings, "merges": len(merges),
                           "some_merges": [[i, *merges[i]] for i in range(0, len(merges), len(merges) // 12)]}, cases)


def sequences(charsmap):
    """Names and normalizers; what the C++ test makes of the same names stands in tests/server/text/normalizer_test.cc."""
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    return {
        "precompiled": normalizers.Precompiled(charsmap),
        "nfc": normalizers.NFC(), "nfd": normalizers.NFD(), "nfkc": normalizers.NFKC(), "nfkd": normalizers.NFKD(),
        "lowercase": normalizers.Lowercase(), "nmt": normalizers.Nmt(), "strip_accents": normalizers.StripAccents(),
        "strip": normalizers.Strip(), "strip_right": normalizers.Strip(left=False, right=True),
        "prepend": normalizers.Prepend("▁"), "replace": normalizers.Replace("``", '"'), "replace_spaces": spaces,
        "replace_blanks": normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        "t5": normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]),
        "llama": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        "all": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Precompiled(charsmap), normalizers.Lowercase(), normalizers.NFD(),
                                     normalizers.StripAccents(), spaces, normalizers.Strip()]),
    }


def normalizer_cases(proto):
    made = sequences(proto.normalizer_spec.precompiled_charsmap)
    all_texts = texts(330, 3)
    cases = []
    for name, normalizer in made.items():
        count = 330 if name in ("precompiled", "nfkc", "t5") else len(ODD)
        tokenizer = Tokenizer(models.BPE({"<unk>": 0}, [], unk_token="<unk>"))
        tokenizer.normalizer = normalizer
        for index, text in enumerate(all_texts[:count]):
            normalized = normalizer.normalize_str(text)
            # One unknown token for each character: its offsets, in characters, say where it comes from.
            # Both only where something changes.
            offsets = [place for span in tokenizer.encode(text).offsets for place in span]
            if normalized != text or offsets != [place for i in range(len(text)) for place in (i, i + 1)]:
                cases.append([name, index, normalized, offsets])
            else:
                cases.append([name, index])
    write("normalizers.json", {"model": "unigram.model", "texts": all_texts}, cases)


def sentencepiece_cases(proto):
    all_texts = texts(320, 4)
    cases = []
    flags = ("add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces")
    for bits in (0b111, 0b000, 0b011, 0b1111):
        changed = sentencepiece_model_pb2.ModelProto()
        changed.CopyFrom(proto)
        for i, flag in enumerate(flags):
            setattr(changed.normalizer_spec, flag, bool(bits >> i & 1))
        changed.trainer_spec.treat_whitespace_as_suffix = bool(bits >> 3)
        processor = sentencepiece.SentencePieceProcessor(model_proto=changed.SerializeToString())
        for index, text in enumerate(all_texts[:None if bits == 0b111 else len(ODD)]):
            if "\0" not in text:
                cases.append([bits, index, processor.normalize(text)])
    write("sentencepiece_normalizer.json", {"model": "unigram.model", "texts": all_texts}, cases)


def main():
    OUT.mkdir(exist_ok=True)
    unigram = train("unigram", model_type="unigram", vocab_size=500)
    unigram_cases("unigram", unigram)
    unigram_cases("unigram-bytes", train("unigram-bytes", model_type="unigram", vocab_size=560, byte_fallback=True, user_defined_symbols=["<hl>", "ing▁"]))
    bpe_cases("bpe", train("bpe", model_type="bpe", vocab_size=600, byte_fallback=True))
    normalizer_cases(unigram)
    sentencepiece_cases(unigram)


if __name__ == "__main__":
    main()
