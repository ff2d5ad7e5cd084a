"""Whether salient_spans bring what they mark into the summaries of debian-synopsis, and what that costs. What came out stands in
salience.md.

Usage, in an environment with rouge_requirements.txt:
  python3 salience.py --elserve BINARY [--work DIR] [--limit N] [--layers 1 2 1,2,3,4 ...]

Texts: summaries of rouge.py's held-out texts, those that have a phrase to mark, spread over all. Of each text one phrase and one
sentence are marked, drawn at random (the seed is fixed) from those behind the first sentence of which no word is in the summary
without spans. A phrase: two to four words in a row with nothing but blanks between, each of four letters or more and no common one. A
sentence: up to a full stop, or a line, with at least three such words. Parameters are the checkpoint's, 4 beams among them, in float32;
one server for each choice of layers (all heads), one request for each text, span and strength.

Printed, for each choice of layers and each strength: the share of the span's words (those of the rule above) that are in the summary,
the share of texts of which at least one is, the share of summaries that changed, ROUGE-L against the maintainer's own summary, and the
mean number of words. Strength 0 is without spans: there the first two are 0 by the choice of the spans.
"""
import argparse
import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import harness
import rouge

STRENGTHS = [0.5, 0.9, 0.99, 1.0]
SEED = 16
COMMON = set("""about above across after also although always among another because been before being below between both cannot
could does done during each either else even ever every example from further have having here however http https include includes
including into itself just know known like made make makes many more most much must need needs only other others over package packages
particular please possible provide provided provides same several should since some such than that their them then there these they
this those through thus together under until upon used useful user users uses using various very want well were what when where whether
which while will with within without would your""".split())
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*[A-Za-z]|[A-Za-z]")


def words(text):
    return [w.lower() for w in WORD.findall(text)]


def counts(word):
    return len(word) >= 4 and word.lower() not in COMMON


def phrases(text, begin):
    """(begin, end) of runs of two to four words that count, from `begin` on."""
    run = []
    for match in [*WORD.finditer(text, begin), None]:
        joins = match and counts(match[0]) and (not run or text[run[-1].end():match.start()].strip(" ") == "")
        if joins and len(run) < 4:
            run.append(match)
            continue
        if len(run) >= 2:
            yield run[0].start(), run[-1].end()
        run = [match] if match and counts(match[0]) else []


def sentences(text, begin):
    for match in re.finditer(r"[^\n.]+(?:\.(?!\s|$)[^\n.]*)*", text[begin:]):
        part = match[0].strip()
        if sum(map(counts, words(part))) >= 3:
            at = text.index(part, begin + match.start())
            yield at, at + len(part)


def draw(rng, text, summary):
    """A phrase and a sentence, or None."""
    first = re.search(r"[.\n]\s", text)
    if not first:
        return None
    said = set(words(summary))
    spans = []
    for candidates in (phrases, sentences):
        new = [s for s in candidates(text, first.end()) if not said & set(filter(counts, words(text[slice(*s)])))]
        if not new:
            return None
        spans.append(rng.choice(new))
    return spans


def summarize(service, pb, rows, spans=None, strength=0):
    def one(item):
        row, span = item
        request = pb.SummarizeRequest(document=row["source"], truncation=pb.TRUNCATION_TRUNCATE)
        if strength:
            begin, end = (len(row["source"][:at].encode()) for at in span)
            request.salient_spans.add(begin=begin, end=end)
            request.salience_strength = strength
        return service.Summarize(request).hypotheses[0].text

    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(one, zip(rows, spans or [None] * len(rows))))


class Figures:
    def __init__(self, scorer, rows, plain):
        self.scorer, self.rows, self.plain = scorer, rows, plain

    def line(self, kind, layers, strength, spans, texts):
        shares, some, lengths, rouge_sum = 0, 0, 0, 0
        for row, span, text in zip(self.rows, spans, texts):
            wanted, said = set(filter(counts, words(row["source"][slice(*span)]))), words(text)
            shares += len(wanted & set(said)) / len(wanted)
            some += bool(wanted & set(said))
            lengths += len(said)
            rouge_sum += self.scorer.score(row["target"], text)["rougeL"].fmeasure
        n = len(self.rows)
        changed = sum(a != b for a, b in zip(texts, self.plain))
        return (f"| {kind} | {layers} | {strength} | {100 * shares / n:.1f} % | {100 * some / n:.1f} % | {100 * changed / n:.1f} % | "
                f"{100 * rouge_sum / n:.2f} | {lengths / n:.1f} |")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--elserve", required=True, help="the program; it is started on free ports")
    ap.add_argument("--work", default=f"{rouge.ROOT}/build/rouge", help="rouge.py's folder for texts, stubs and logs")
    ap.add_argument("--limit", type=int, default=400, help="so many texts")
    ap.add_argument("--layers", nargs="+", default=["1", "2", "3", "4", "1,2,3,4"], help="choices of layers, counted from 1")
    a = ap.parse_args()
    import grpc
    from rouge_score import rouge_scorer
    os.makedirs(a.work, exist_ok=True)
    pb, rpc = rouge.stubs(a.work)
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    rows = [r for r in rouge.fetch_pairs(a.work) if r["task"] == "sum" and len(r["source"]) < 4000]
    begin, rng, figures, chosen = time.time(), random.Random(SEED), None, []
    print(harness.processor(), flush=True)
    for layers in a.layers:
        keys = {"salience": {"layers": json.loads(f"[{layers}]")}}
        with rouge.Server(a.elserve, "float32", a.work, keys) as address, grpc.insecure_channel(address) as channel:
            service = rpc.GenerationServiceStub(channel)
            if not chosen:
                rows = rows[::max(1, len(rows) // (4 * a.limit))]
                plain = summarize(service, pb, rows)
                drawn = [(r, p, draw(rng, r["source"], p)) for r, p in zip(rows, plain)]
                chosen = [d for d in drawn if d[2]]
                chosen = [chosen[i * len(chosen) // a.limit] for i in range(min(a.limit, len(chosen)))]
                rows, plain = [d[0] for d in chosen], [d[1] for d in chosen]
                figures = Figures(scorer, rows, plain)
                print(f"{len(rows)} texts\n\n| span | layers | strength | its words in the summary | one at least | summaries "
                      "changed | ROUGE-L | words |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
            for place, kind in enumerate(("phrase", "sentence")):
                spans = [d[2][place] for d in chosen]
                if layers == a.layers[0]:
                    print(figures.line(kind, "none", 0, spans, plain), flush=True)
                for strength in STRENGTHS:
                    print(figures.line(kind, layers, strength, spans, summarize(service, pb, rows, spans, strength)), flush=True)
    print(f"\n{time.time() - begin:.0f} s")


if __name__ == "__main__":
    main()
