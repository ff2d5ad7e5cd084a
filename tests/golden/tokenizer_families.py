"""Tiny tokenizers of the SentencePiece families, in the files that hubs have them in, and what the references make of them.

A folder's reference is what its files mean literally. For tokenizer.json that is the tokenizers library. For a
SentencePiece model it is the tokenizer that transformers' converters (convert_slow_tokenizer.py) make of it, which is
what transformers 4 runs and saves as tokenizer.json; transformers 5 builds T5's, Pegasus's and mBART's tokenizers with
other normalizers. Marian's is MarianTokenizer, which runs the sentencepiece library.
"""
import io
import json
import pathlib

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import MarianTokenizer
from transformers.convert_slow_tokenizer import (MBART50_LANGUAGES, MBART_LANGUAGES, MBart50Converter, MBartConverter,
                                                 PegasusConverter, T5Converter)

# What nmt_nfkc does for some characters, so that the models' character maps stay small: T5's has all of nmt_nfkc.
RULES = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u2003": " ", "\u200b": " ", "\u00ad": "", "\x01": "",
         "\x7f": "", "ﬁ": "fi", "½": "1⁄2", "①": "1", "Ａ": "A", "ｂ": "b", "ｃ": "c", "１": "1", "２": "2", "e\u0301": "é",
         "a\u0308": "ä", "カ\u3099": "ガ", "…": "...", "\ufeff": "", "\u2028": " "}


def train(corpus, tsv=None, **options):
    """A SentencePiece model as bytes."""
    model = io.BytesIO()
    if tsv is not None:
        options["normalization_rule_tsv"] = str(tsv)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    return model.getvalue()


def write_rules(path):
    lines = [" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value)
             for key, value in sorted(RULES.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def dump(path, value, **kwargs):
    path.write_text(json.dumps(value, ensure_ascii=True, **kwargs) + "\n", encoding="utf-8")


class Stub:
    """What a converter asks of the Python tokenizer that it converts."""

    def __init__(self, vocab_file, **attributes):
        self.vocab_file = str(vocab_file)
        self.ids = {}
        self.__dict__.update(attributes)

    def convert_tokens_to_ids(self, token):
        return self.ids[token]


def convert(converter_class, stub, frame_tokens):
    """converter.converted(), with the ids that a frame needs looked up in the converter's own vocabulary."""
    converter = converter_class(stub)
    vocab = [piece for piece, _ in converter.vocab(converter.proto)]
    stub.ids = {token: vocab.index(token) for token in frame_tokens}
    return converter.converted()


def add_tokens(tokenizer, tokens):
    """TokenizersBackend.__init__: what is not there yet; a string becomes a special token."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    adding = [token if isinstance(token, AddedToken) else AddedToken(token, special=True) for token in tokens
              if (token.content if isinstance(token, AddedToken) else token) not in known]
    for token in adding:
        if token.special:
            tokenizer.add_special_tokens([token])
        else:
            tokenizer.add_tokens([token])


def t5(folder, corpus):
    """spiece.model with all of nmt_nfkc, ten extra ids, and a question generator's tokens in added_tokens.json."""
    folder.mkdir()
    (folder / "spiece.model").write_bytes(
        train(corpus, vocab_size=420, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98))
    extra = [f"<extra_id_{i}>" for i in range(10)]
    tokenizer = convert(T5Converter, Stub(folder / "spiece.model", _extra_ids=10), ["</s>"])
    size = tokenizer.get_vocab_size()
    dump(folder / "added_tokens.json", {"<sep>": size, "<hl>": size + 1, "new york": size + 2}, indent=1)
    dump(folder / "special_tokens_map.json", {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
                                              "additional_special_tokens": extra}, indent=1)
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 10,
                                            "additional_special_tokens": extra}, indent=1)
    add_tokens(tokenizer, [AddedToken("<sep>", normalized=True), AddedToken("<hl>", normalized=True),
                           AddedToken("new york", normalized=True), "</s>", "<unk>", "<pad>"] + extra)
    return tokenizer


def t5_json(folder, corpus, tsv):
    """tokenizer.json as the hub has T5's, with no class named but the model's; a prefix only where the text begins."""
    folder.mkdir()
    model = sentencepiece.SentencePieceProcessor(model_proto=train(
        corpus, tsv, vocab_size=300, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98))
    vocab = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(vocab + [("<extra_id_0>", 0.0)], unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(True, True),
        normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")])
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="first"), decoders.Fuse(),
                                           decoders.Replace("  ", "_"), decoders.Strip(" ", 1, 0)])
    add_tokens(tokenizer, ["<pad>", "</s>", "<unk>", "<extra_id_0>", AddedToken("New York"),
                           AddedToken("<HL>", rstrip=True), AddedToken("over", single_word=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<extra_id_0> <pad> $A </s> </s>", pair="$A $B",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<extra_id_0>", "<pad>", "</s>")])
    dump(folder / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
    dump(folder / "config.json", {"model_type": "t5"})
    return tokenizer


def pegasus(folder, corpus, tsv, as_json):
    """spiece.model, and beside it the same as tokenizer.json."""
    folder.mkdir()
    (folder / "spiece.model").write_bytes(
        train(corpus, tsv, vocab_size=380, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98))
    config = {"tokenizer_class": "PegasusTokenizer", "model_max_length": 1024}
    dump(folder / "tokenizer_config.json", config, indent=1)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask_2>"}
    tokenizer = convert(PegasusConverter, Stub(folder / "spiece.model", mask_token_sent="<mask_1>", mask_token_id=3,
                                               eos_token_id=1, offset=103, **names), [])
    add_tokens(tokenizer, ["</s>", "<unk>", "<pad>", "<mask_2>", "<mask_1>"] + [f"<unk_{i}>" for i in range(2, 103)])
    as_json.mkdir()
    dump(as_json / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
    dump(as_json / "tokenizer_config.json", {**config, **names}, indent=1)
    return tokenizer


def mbart(folder, corpus, tsv, as_json, fifty):
    """sentencepiece.bpe.model (which holds a unigram model) with fairseq's ids, and the same as tokenizer.json."""
    folder.mkdir()
    (folder / "sentencepiece.bpe.model").write_bytes(
        train(corpus, tsv, vocab_size=360, user_defined_symbols=["overlap"], character_coverage=0.98))
    source = "en_XX" if fifty else "de_DE"
    config = {"tokenizer_class": "MBart50Tokenizer" if fifty else "MBartTokenizer", "src_lang": source, "tgt_lang": None}
    dump(folder / "tokenizer_config.json", config, indent=1)
    tokenizer = convert(MBart50Converter if fifty else MBartConverter, Stub(folder / "sentencepiece.bpe.model"),
                        ["en_XX", "</s>"])
    names = ["</s>", "<unk>", "<pad>", "<s>", AddedToken("<mask>", lstrip=True, special=True, normalized=True)]
    add_tokens(tokenizer, names + (MBART50_LANGUAGES if fifty else MBART_LANGUAGES))

    def with_source(code):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{code} $A </s>" if fifty else f"$A </s> {code}", pair="$A $B",
            special_tokens=[(t, tokenizer.token_to_id(t)) for t in (code, "</s>")])
        return tokenizer

    with_source(source)
    if as_json is not None:
        as_json.mkdir()
        dump(as_json / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
        dump(as_json / "tokenizer_config.json", config, indent=1)
    codes = MBART50_LANGUAGES if fifty else MBART_LANGUAGES
    return tokenizer, with_source, codes


def marian(folder, corpus, tsv, model_type):
    """Two models and vocab.json: half of the source's pieces, pieces of the target's alone, and languages."""
    folder.mkdir()
    common = {"model_type": model_type, "character_coverage": 0.98, "bos_id": -1, "unk_id": 1, "eos_id": 0}
    (folder / "source.spm").write_bytes(
        train(corpus, tsv, vocab_size=340, user_defined_symbols=[] if model_type == "bpe" else ["日本"],
              byte_fallback=model_type == "bpe", **common))
    (folder / "target.spm").write_bytes(train(corpus[::2] + ["ÿþ ☃ Ⓐ 각각"], tsv, vocab_size=300, **common))
    source, target = (sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm")) for side in
                      ("source", "target"))
    pieces = ["</s>", "<unk>"]
    for model, keep in ((source, lambda i: i % 9 != 4), (target, lambda i: True)):
        for i in range(model.get_piece_size()):
            piece = model.id_to_piece(i)
            if piece not in pieces and (keep(i) or piece.startswith("<0x")):
                pieces.append(piece)
    pieces += ["☃", "👍", ">>fra<<", ">>deu<<", ">>zho_Hans<<", "<pad>"]
    dump(folder / "vocab.json", {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, separators=(",", ":"))
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "source_lang": "eng", "target_lang": "mul",
                                            "model_max_length": 512, "separate_vocabs": False}, indent=1)
    dump(folder / "special_tokens_map.json", {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, indent=1)
    return MarianTokenizer.from_pretrained(folder)


def bpe_json(folder, corpus):
    """Characters merged as SentencePiece does, with byte fallback: tokenizer.json alone, of the class that runs it."""
    folder.mkdir()
    proto = train(corpus, vocab_size=560, model_type="bpe", byte_fallback=True, character_coverage=0.98)
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    vocab = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    merges = [(piece[:i], piece[i:]) for piece in vocab for i in range(1, len(piece))
              if piece[:i] in vocab and piece[i:] in vocab and not piece.startswith("<")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    add_tokens(tokenizer, ["<unk>", "<s>", "</s>", AddedToken("<hl>", normalized=False), AddedToken("over", normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="$A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    dump(folder / "tokenizer.json", json.loads(tokenizer.to_str()), separators=(",", ":"))
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
                                            "eos_token": "</s>", "unk_token": "<unk>"}, indent=1)
    return tokenizer
