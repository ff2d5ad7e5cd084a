"""Measures the served system; README.md here says what each figure means. In an environment with requirements.txt:

  python3 tests/bench/run.py                          everything, in about two hours on two cores
  python3 tests/bench/run.py peers --cases 1024 --docs 16
  python3 tests/bench/run.py precisions|forms|el|online|first-text      each part alone; several may be named
  python3 tests/bench/run.py all --docs 2 --out 4 --rounds 1 --seconds 5      whether it works, in minutes

Needs a build (cmake --preset release && cmake --build --preset release). All of it stays on the loopback interface, and each
process that it starts ends with it.
"""
import argparse
import contextlib
import os
import signal
import statistics
import sys

import el
import harness
from harness import Load, Quiet, Server, markdown
from peers import documents

PARTS = ("peers", "precisions", "forms", "el", "online", "first-text")
CASES = {"1024": ("1024", 4), "256": ("256", 4), "mix": ("mix", 4), "greedy": ("1024", 1)}  # name -> source, beams
BATCHES, DTYPES = (8, 16, 32), ("float32", "int8")
# elserve's, as options of Server; and the type of CTranslate2 that one is compared with, beside all types' best one.
PRECISIONS = {"float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16"}, "int8": {"precision": "int8"},
              "int8-states": {"precision": "int8", "memory_precision": "int8"}}
INT8 = ("int8", "int8-states")  # of processors with VNNI
PEERS = {"float32": "float32", "int8": "int8"}
OPENVINO = "OpenVINO bfloat16"  # by optimum-intel


class Bench:
    def __init__(self, a):
        self.a, self.quiet, self.full_rate = a, Quiet(a.patience), None
        self.elserve, self.static = f"{a.build}/server/elserve", f"{a.build}/tests/bench/static_server"
        self.precisions_here = [p for p in PRECISIONS if p not in INT8 or harness.has_int8()]
        self.load = Load(f"{a.build}/tests/bench/load_generator", a.timeout)
        for binary in (self.elserve, self.static, self.load.binary):
            if not os.path.exists(binary):
                sys.exit(f"{binary} is missing: build first, or name the build's folder by --build")

    def documents(self, source, count):
        return harness.write_documents(f"{self.a.work}/{source}-{count}.jsonl", documents(count, source))

    def server(self, name, binary=None, **options):
        return Server(binary or self.elserve, self.a.work, name, self.a.model, **options)

    def closed(self, server, source, count, beams, **flags):
        """All documents at once, after one that warms up."""
        self.load(server, self.documents(source, 1), beams=beams, new_tokens=self.a.out)
        self.quiet.wait()
        return self.load(server, self.documents(source, count), beams=beams, new_tokens=self.a.out, in_flight=max(count, 1), **flags)

    # ---- Against the peers ----

    def ct2(self, dtype, batch, source, beams):
        self.quiet.wait()
        return harness.peer("ct2", self.a.model, self.a.timeout * 4, dtype=dtype, batch=batch, src=source, beam=beams, docs=self.a.docs,
                            out=self.a.out, threads=len(os.sched_getaffinity(0)))["docs_per_second"]

    def openvino(self, batch, source, beams):
        self.quiet.wait()
        return harness.peer("openvino", self.a.model, self.a.timeout * 8, python=self.a.openvino, dtype="bfloat16", batch=batch, src=source,
                            beam=beams, docs=self.a.docs, out=self.a.out, threads=len(os.sched_getaffinity(0)))["docs_per_second"]

    def peer_rate(self, contender, batch, source, beams):
        return self.openvino(batch, source, beams) if contender == OPENVINO else self.ct2(contender, batch, source, beams)

    def compare_case(self, servers, source, beams):
        """(rates of ours by precision, phases of ours, rates of the peers by contender, their best batches): medians over rounds.

        The first round tries all batch sizes, the others each contender's best; within a round one contender follows the other."""
        rates, phases, best_batch = {}, {}, {}
        for round_number in range(self.a.rounds):
            first = round_number == 0
            if first:
                tried = {}
            for precision, server in servers.items():
                result = self.closed(server, source, self.a.docs, beams)
                rates.setdefault(precision, []).append(result["documents_per_second"])
                phases.setdefault(precision, []).append(result["phases"])
                contenders = [PEERS.get(precision), OPENVINO if self.a.openvino and precision == "bfloat16" else None]
                for contender in filter(None, contenders):
                    for batch in self.a.batches if first else [best_batch[contender]]:
                        rate = self.peer_rate(contender, batch, source, beams)
                        tried.setdefault(contender, {}).setdefault(batch, []).append(rate)
                    best_batch[contender] = max(tried[contender], key=lambda b: max(tried[contender][b]))
        peers = {contender: statistics.median(by_batch[best_batch[contender]]) for contender, by_batch in tried.items()}
        middle = {p: {k: statistics.median(x[k] for x in all_) for k in all_[0]} for p, all_ in phases.items()}
        return {p: statistics.median(r) for p, r in rates.items()}, middle, peers, best_batch

    def peers(self):
        rows, phase_rows = [], []
        with contextlib.ExitStack() as stack:
            servers = {p: stack.enter_context(self.server(f"elserve-{p}", max_rows=self.a.max_rows, **PRECISIONS[p])) for p in self.precisions_here}
            for case in self.a.cases:
                source, beams = CASES[case]
                ours, phases, theirs, batch = self.compare_case(servers, source, beams)
                best = max(theirs[d] for d in DTYPES)
                contenders = [*DTYPES, *([OPENVINO] if self.a.openvino else [])]
                rows.append([case, *(f"{ours[p]:.2f}" for p in servers)] + [f"{theirs[c]:.2f} (batch {batch[c]})" for c in contenders] +
                            [f"{ours['float32'] / theirs['float32']:.2f}x", f"{ours['bfloat16'] / best:.2f}x",
                             *(f"{ours[p] / theirs['int8']:.2f}x" for p in INT8 if p in servers)])
                for precision, phase in phases.items():
                    milliseconds = [f"{1e3 * phase[p]:.1f}" for p in (*harness.PHASES, "step")]
                    phase_rows.append([case, precision, *milliseconds, f"{1e3 / ours[precision]:.1f}"])
                print(f"  {case} done", file=sys.stderr, flush=True)
        return "\n\n".join([
            f"### Documents a second, {self.a.docs} documents, {self.a.out} new tokens each",
            markdown(["case", *(f"elserve {p}" for p in servers), *(f"CTranslate2 {d}" for d in DTYPES),
                      *([OPENVINO] if self.a.openvino else []), "float32 to float32", "bfloat16 to CTranslate2's best", *(f"{p} to int8" for p in INT8 if p in servers)],
                     rows),
            "Milliseconds a document, from /metrics:",
            markdown(["case", "precision", *harness.PHASES, "steps in all", "wall"], phase_rows)])

    # ---- What is held in memory ----

    @contextlib.contextmanager
    def crowded(self, name, **options):
        """A server with --memory that --crowd documents wait for, after these: it, what came out, and the most in flight. There are rows
        for all of them: memory alone decides."""
        with self.server(name, memory=self.a.memory, max_rows=4 * self.a.crowd, **options) as server:
            result = self.load(server, self.documents("1024", self.a.crowd), beams=4, new_tokens=self.a.out, in_flight=self.a.crowd)
            most = int(server.metric("elserve_sequences_in_flight_peak"))
            yield server, result, f"at least {most} (raise --crowd)" if most >= self.a.crowd else most

    def precisions(self):
        rows, starts = [], {name: [] for name in self.precisions_here}
        for _ in range(self.a.rounds):
            for name in starts:
                self.quiet.wait()
                with self.server(f"elserve-{name}-start", memory="64MiB", **PRECISIONS[name]) as server:
                    starts[name].append(server.start_seconds)
        for name in starts:
            with self.crowded(f"elserve-{name}-memory", **PRECISIONS[name], attention="el") as (server, result, most):
                model = result["model"]
                rows.append([name, f"{server.metric('elserve_weight_bytes') / 2**20:.0f} MiB", f"{statistics.median(starts[name]):.2f}",
                             model["bytes_per_encoder_token"], model["bytes_per_decoder_token"], most, f"{server.resident_bytes() / 2**20:.0f} MiB"])
        return "\n\n".join([
            f"### What a precision takes: hidden states (el), `memory: {self.a.memory}`, {self.a.crowd} documents of 1024 tokens waiting, 4 beams, "
            f"{self.a.out} new tokens",
            markdown(["precision", "weights", "from start to serving, s", "bytes a source token", "bytes a decoder position",
                      "most documents in flight", "resident memory after them"], rows)])

    # ---- Hidden states against keys and values ----

    def forms(self):
        rows, memory_rows = [], []
        with contextlib.ExitStack() as stack:
            servers = {f: stack.enter_context(self.server(f"elserve-{f}", attention=f, max_rows=self.a.max_rows)) for f in ("el", "kv")}
            for beams in self.a.beams:
                rates = {f: [] for f in servers}
                for _ in range(self.a.rounds):
                    for form, server in servers.items():
                        rates[form].append(self.closed(server, "1024", self.a.docs, beams)["documents_per_second"])
                el, kv = (statistics.median(rates[f]) for f in ("el", "kv"))
                rows.append([beams, f"{el:.2f}", f"{kv:.2f}", f"{el / kv:.2f}x"])
        for form in ("el", "kv"):
            with self.crowded(f"elserve-{form}-memory", attention=form) as (server, result, most):
                used, model = server.metric("elserve_memory_peak_bytes"), result["model"]
                memory_rows.append([form, most, f"{used / 2**20:.0f} MiB", f"{model['memory_bytes'] / 2**20:.0f} MiB",
                                    model["bytes_per_encoder_token"], model["bytes_per_decoder_token"],
                                    f"{result['documents_per_second']:.2f}"])
        return "\n\n".join([
            f"### Hidden states (el) against keys and values (kv): bfloat16, sources of 1024, {self.a.out} new tokens, {self.a.docs} documents",
            markdown(["beams", "el, documents a second", "kv", "el to kv"], rows),
            f"In flight at once with `memory: {self.a.memory}`, 4 beams, {self.a.crowd} documents waiting:",
            markdown(["form", "most documents in flight", "memory used at most", "memory planned", "bytes a source token", "bytes a decoder position",
                      "documents a second"], memory_rows)])

    def el(self):
        """The same, and keys and values of each beam's own: what they hold and how fast they are, by the engine alone."""
        return el.gains(self.a, self.quiet)

    # ---- Requests that come when they come ----

    def arrivals(self, server, rate, beams=4, seed=1, **flags):
        self.quiet.wait()
        count = max(2, round(rate * self.a.seconds))
        return self.load(server, self.documents("mix", 256), beams=beams, new_tokens=f"{max(1, self.a.out // 4)}:{2 * self.a.out}", rate=f"{rate:.4f}",
                         requests=count, in_flight=1024, seed=seed, **flags)

    def capacity(self, server):
        """Documents a second of the mix that arrivals() sends, in a closed loop."""
        return self.load(server, self.documents("mix", 256), beams=4, new_tokens=f"{max(1, self.a.out // 4)}:{2 * self.a.out}",
                         requests=self.a.docs, in_flight=max(self.a.docs, 1))["documents_per_second"]

    @staticmethod
    def arrival_row(name, rate, result):
        latency = result["latency"]
        lost = sum(result["errors"].values()) + result["not_sent"]
        return [f"{rate:.2f}", name, *(f"{latency[p]:.2f}" for p in ("p50", "p95", "p99")), f"{result['documents_per_second']:.2f}", lost]

    def online(self, shares=None):
        rows, highest = [], {}
        with self.server("continuous") as continuous, self.server("static", binary=self.static, max_rows=self.a.max_rows) as static:
            servers = {"continuous": continuous, "static": static}
            if self.full_rate is None:
                for server in servers.values():
                    self.load(server, self.documents("mix", 1), beams=4, new_tokens=self.a.out)
                self.quiet.wait()
                self.full_rate = self.capacity(continuous)
            running = set(servers)
            for rate in [share * self.full_rate for share in shares or self.a.shares]:
                for name in sorted(running):
                    result = self.arrivals(servers[name], rate)
                    rows.append(self.arrival_row(name, rate, result))
                    if result["latency"]["p95"] <= self.a.limit and rows[-1][-1] == 0:
                        highest[name] = rate
                    elif shares is None:
                        running.discard(name)  # more would only be slower
        summary = "; ".join(f"{name} {highest[name]:.2f} a second" if name in highest else f"{name} at none of these rates" for name in servers)
        return "\n\n".join([
            f"### Poisson arrivals for {self.a.seconds} s a rate, sources of mixed lengths, 4 beams, {max(1, self.a.out // 4)} to {2 * self.a.out} new tokens, "
            f"bfloat16 (closed loop: {self.full_rate:.2f} documents a second)",
            markdown(["rate", "batching", "p50 s", "p95 s", "p99 s", "answered a second", "lost"], rows),
            f"Highest rate with p95 at most {self.a.limit:g} s and nothing lost: {summary}."])

    # ---- When a reader sees something ----

    def texts(self):
        """Texts of the length of the embedded model's documents."""
        sys.path.insert(0, f"{harness.ROOT}/tests/golden")
        from synopsis_texts import SUMMARIES
        return harness.write_documents(f"{self.a.work}/texts.jsonl", SUMMARIES)

    def first_text(self):
        rows = []
        with contextlib.ExitStack() as stack:
            embedded = stack.enter_context(Server(self.elserve, self.a.work, "embedded", f"{harness.ROOT}/models/debian-synopsis"))
            base = stack.enter_context(self.server("streams"))
            for name, server, source in (("debian-synopsis, real texts", embedded, self.texts()),
                                         ("random BART-base, 1024 tokens", base, self.documents("1024", 32))):
                for beams in (1, 4):
                    flags = {"beams": beams, "stream": True} | ({"new_tokens": self.a.out} if server is base else {})
                    self.load(server, source, requests=1, in_flight=1, **flags)
                    for in_flight in (1, 8):
                        self.quiet.wait()
                        result = self.load(server, source, requests=max(in_flight, self.a.docs), in_flight=in_flight, **flags)
                        first, latency = result["first_text"], result["latency"]
                        rows.append([name, "greedy" if beams == 1 else f"{beams} beams", in_flight,
                                     *(f"{1e3 * first[p]:.0f}" if first else "-" for p in ("p50", "p95")), *(f"{1e3 * latency[p]:.0f}" for p in ("p50", "p95"))])
        return "\n\n".join([
            "### Streams: from sending a request to its first text, and to its whole answer, bfloat16",
            markdown(["model", "search", "streams at once", "first text p50 ms", "p95 ms", "answer p50 ms", "p95 ms"], rows)])

    # ---- The same beside a process that computes ----

    def busy(self, parts):
        """Ratios to the peer for one case, one rate of arrivals, first texts: of the parts that were asked for."""
        out = ["## Beside one busy process"]
        self.quiet.off = True
        cases, self.a.cases = self.a.cases, self.a.cases[:1]
        with harness.busy_neighbour():
            if "peers" in parts:
                out.append(self.peers())
            if "online" in parts:
                out.append(self.online(shares=[0.25, 0.5]))  # of what the undisturbed machine reached
            if "first-text" in parts:
                out.append(self.first_text())
        self.a.cases, self.quiet.off = cases, False
        return "\n\n".join(out) if len(out) > 1 else ""


def names(allowed, kind=str):
    def parse(text):
        values = [kind(x) for x in text.split(",")]
        if allowed and not set(values) <= set(allowed):
            raise argparse.ArgumentTypeError(f"{text}; allowed are {', '.join(map(str, allowed))}")
        return values
    return parse


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("parts", nargs="*", default=["all"], metavar="PART", help=f"all, or some of {', '.join(PARTS)}")
    ap.add_argument("--build", default=f"{harness.ROOT}/build/release", help="folder of the build")
    ap.add_argument("--work", default=f"{harness.ROOT}/build/bench", help="folder for the model, documents, logs and results")
    ap.add_argument("--model", help="checkpoint directory; default: a random BART-base, made in --work")
    ap.add_argument("--cases", type=names(CASES), default=list(CASES), help="of peers, by commas: " + ",".join(CASES))
    ap.add_argument("--batches", type=names(None, int), default=list(BATCHES), help="of the peers")
    ap.add_argument("--openvino", metavar="PYTHON", help="interpreter with openvino_requirements.txt: OpenVINO is a peer too")
    ap.add_argument("--beams", type=names(None, int), default=[1, 4, 8], help="of forms")
    ap.add_argument("--docs", type=int, default=32, help="documents in a closed loop; of el: in a batch, at most")
    ap.add_argument("--out", type=int, default=64, help="new tokens of each")
    ap.add_argument("--rounds", type=int, default=3, help="figures are medians over so many interleaved rounds")
    ap.add_argument("--memory", default="128MiB", help="of precisions and forms: what they get to hold as many documents as they can")
    ap.add_argument("--crowd", type=int, default=128, help="documents that wait for it")
    ap.add_argument("--sizes", type=names(el.SIZES), default=list(el.SIZES), help="of el: models, by commas: " + ",".join(el.SIZES))
    ap.add_argument("--sources", type=names(el.SOURCES, int), default=list(el.SOURCES), help="of el: tokens, by commas: 256,512,1024")
    ap.add_argument("--searches", type=names(el.SEARCHES), default=list(el.SEARCHES), help="of el: beams, by commas: " + ",".join(el.SEARCHES))
    ap.add_argument("--el-memory", type=int, default=512, metavar="MIB", help="of el: what documents in flight may take")
    ap.add_argument("--max-rows", type=int, default=256, help="of the servers in closed loops and with static batches; for the others their own choice")
    ap.add_argument("--shares", type=names(None, float), default=[0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
                    help="of online: rates as shares of what a closed loop reaches")
    ap.add_argument("--seconds", type=float, default=60, help="of online: how long requests come at a rate")
    ap.add_argument("--limit", type=float, default=10, help="of online: what p95 latency may be, in seconds")
    ap.add_argument("--patience", type=float, default=60, help="seconds to wait before a measurement for a quiet machine")
    ap.add_argument("--no-busy", action="store_true", help="leave out the runs beside a busy process")
    ap.add_argument("--timeout", type=float, default=300, help="seconds that one request may take")
    a = ap.parse_args()
    a.parts = list(PARTS) if "all" in a.parts else a.parts
    if not set(a.parts) <= set(PARTS):
        ap.error(f"PART is {' '.join(a.parts)}; allowed are all, {', '.join(PARTS)}")
    if min(a.docs, a.out, a.rounds, a.crowd) < 1:
        ap.error("--docs, --out, --rounds and --crowd are at least 1")
    a.model = a.model or f"{a.work}/bart-base"
    return a


def main():
    # So that `with` and `finally` end the children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    a = arguments()
    os.makedirs(a.work, exist_ok=True)
    harness.make_model(a.model)
    bench = Bench(a)
    with open(f"{a.work}/results.md", "w") as results:
        def say(text):
            if text:
                print(text + "\n", flush=True)
                results.write(text + "\n\n")
                results.flush()
        say(f"Processor: {harness.processor()}")
        for part in a.parts:
            say(getattr(bench, part.replace("-", "_"))())
        if not a.no_busy:
            say(bench.busy(a.parts))
        say(bench.quiet.verdict())


if __name__ == "__main__":
    main()
