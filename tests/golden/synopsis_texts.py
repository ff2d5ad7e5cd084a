"""Texts for debian-synopsis: descriptions to summarize, and marked answers to ask for."""

PREFIX = "generate question: "

SUMMARIES = [
    "Tarfold is a tool that packs a directory tree into one archive and remembers which files changed since the last run. It can be used to make incremental backups to a disk, to a remote host over ssh, or to an object store.",
    "This package contains the development files of libqmesh, a library for reading, checking and writing triangle meshes in the STL, OBJ and PLY formats.",
    "A small game of skill for one or two players. Steer a marble through fifty levels of ramps, lifts and trap doors before the clock runs out.\nThis package contains the music, the levels and the textures.",
    "Provides a Python 3 module to parse and write configuration files in the INI style. In contrast to the module of the standard library:\n- comments and blank lines are kept,\n- the order of sections is kept,\n- values may span several lines.",
    "netwatchd is a daemon that watches network interfaces and runs scripts when a cable is plugged in, when an address changes, or when a gateway stops answering. It reads its rules from a single file, supports IPv4 and IPv6, and logs to syslog.",
    "Fonts.",
    "Perl extension to compare two versions of a text by words and to print the differences in colour on a terminal or as HTML.",
    "Dictionnaire français (orthographe réformée) pour les vérificateurs d'orthographe: café, naïve, œuvre, Noël – et le symbole €.",
    "日本語 input for terminals: converts kana to kanji while you type. Works in xterm, in the Linux console 🐧 and over ssh.",
    "The  spacing\tof this   text is   odd ,  and its punctuation ... too !!  It describes a filter that joins wrapped lines into paragraphs , removes trailing blanks and counts words .",
    "Common Lisp library for HTTP/2 framing, HPACK header compression and TLS negotiation via ALPN; it's used by several web servers, doesn't depend on threads and they've tested it against nghttp2 1.52.0.",
    "oxide-scan finds licences in source trees. It compares the text of each file with more than 1,200 known licences, reports exact and approximate matches with a score between 0.0 and 1.0, and writes its report as JSON, SPDX or plain text. The comparison is done by an index of word triples, so that a tree with 100,000 files takes less than a minute on an ordinary computer.\nThis package contains the command line program.",
    "This is a transitional package. It can safely be removed.",
    # Longer than the sources of the training (256 tokens), several pages of encoder memory.
    " ".join(f"Part {i} of the suite is a {kind} that {verb} {thing} and stores its results in a table for part {i + 1}." for i, (kind, verb, thing) in enumerate(
        [("reader", "imports", "sequences from FASTA files"), ("filter", "drops", "reads of low quality"), ("aligner", "places", "reads on a reference genome"),
         ("caller", "finds", "variants of single bases"), ("viewer", "shows", "alignments in a window"), ("reporter", "prints", "summaries for the laboratory"),
         ("server", "offers", "all results to a browser"), ("client", "asks", "the server for one sample"), ("indexer", "sorts", "positions by chromosome"),
         ("converter", "writes", "files in the BAM format"), ("checker", "compares", "two runs of the same sample"), ("scheduler", "spreads", "the work over a cluster"),
         ("monitor", "watches", "the progress of each job"), ("archiver", "keeps", "old results on tape")])),
]

# The answer stands between the brackets.
QUESTIONS = [
    "Tarfold is [a tool that packs a directory tree into one archive] and remembers which files changed since the last run.",
    "netwatchd watches network interfaces. It is written in [Rust] and has no dependencies beyond the C library.",
    "This package provides [the documentation of libqmesh in HTML format].",
    "oxide-scan supports [JSON, SPDX and plain text reports]. It was developed by a group of lawyers and programmers.",
    "Marble is a game of skill for two players. It was designed [for children between six and ten years]; the levels become harder.",
    "Kakasi-Ω converts 日本語 text. The program is based on [the “SKK” dictionary – version 3] and runs on Linux.",
    "The library can be used [to read meshes from STL files, to check them for holes and to write them as PLY].\nThis package contains the shared library.",
]


def inputs():
    for text in SUMMARIES:
        yield {"task": "summary", "document": text, "prompt": text}
    for marked in QUESTIONS:
        before, rest = marked.split("[")
        answer, after = rest.split("]")
        begin = len(before.encode())
        yield {"task": "question", "context": before + answer + after, "answer": answer,
               "span": [begin, begin + len(answer.encode())],  # bytes of UTF-8
               "prompt": PREFIX + before + "<hl> " + answer + " <hl>" + after}


def beginnings(tokenizer, own, greedy, decode):
    """What make_golden.add_beginnings takes. Labels begin with <s> where nothing else is forced."""
    for text, begins in zip(SUMMARIES, ("tool for", "Library of triangle meshes", "marble")):
        source = tokenizer(text)["input_ids"]
        for parameters in (own, greedy, greedy | {"forced_bos_token_id": 5, "max_new_tokens": 6}):
            before = [parameters["decoder_start_token_id"], parameters.get("forced_bos_token_id", tokenizer.bos_token_id)]
            ids = before + tokenizer(begins, add_special_tokens=False)["input_ids"]
            yield {"task": "summary", "document": text, "prompt": text}, source, parameters, begins, ids, len(before), decode
