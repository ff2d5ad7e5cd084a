"""What run.py measures with: child processes that always end, servers, loads, the peer, and how busy the machine is."""
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
_libc = ctypes.CDLL(None)


def _die_with_parent():
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, **options):
    return subprocess.Popen(command, preexec_fn=_die_with_parent, **options)


def stop(process, patience=20):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(command, timeout):
    """Standard output of a command that has to succeed within `timeout` seconds."""
    process = start(command, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = process.communicate(timeout=timeout)
    finally:
        stop(process, 2)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return out


# ---- The machine ----

def processor_flags():
    return set((re.search(r"^flags\s*:\s*(.*)$", open("/proc/cpuinfo").read(), re.M) or [0, ""])[1].split())


def processor():
    """Its name, its threads, and what it has of the units that the products use."""
    info = open("/proc/cpuinfo").read()
    name = re.search(r"^model name\s*:\s*(.*)$", info, re.M)
    flags = processor_flags()
    wanted = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX512-VNNI", "avx512_bf16": "AVX512-BF16", "amx_tile": "AMX",
              "amx_bf16": "AMX-BF16", "amx_int8": "AMX-INT8"}
    has = [text for flag, text in wanted.items() if flag in flags]
    without = [text for flag, text in wanted.items() if flag not in flags]
    return (f"{name[1] if name else 'unknown processor'}, {len(os.sched_getaffinity(0))} threads; has {', '.join(has) or 'none'}; "
            f"has not {', '.join(without) or 'nothing of the list'}")


def has_int8():
    """Whether the processor has what elserve's int8 needs."""
    return not processor_flags().isdisjoint(("avx512_vnni", "avx_vnni"))


def busy_share(seconds=0.5):
    """The share of all processors' time, 0 to 1, that something else took."""
    def read():
        values = [int(x) for x in open("/proc/stat").readline().split()[1:9]]
        return sum(values), values[3] + values[4]  # all; idle and waiting for disks
    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1 - (idle_after - idle) / max(1, total_after - total)


class Quiet:
    """Looks before each measurement whether the machine is at rest, and remembers the worst that it saw."""

    def __init__(self, patience, limit=0.05):
        self.patience, self.limit, self.worst, self.off = patience, limit, 0.0, False

    def wait(self):
        if self.off:
            return
        end = time.time() + self.patience
        while (share := busy_share()) > self.limit and time.time() < end:
            time.sleep(2)
        self.worst = max(self.worst, share)

    def verdict(self):
        state = "quiet" if self.worst <= self.limit else "NOT QUIET: these figures are noise"
        return f"Other work on the machine before a measurement: at most {100 * self.worst:.0f} % of its time ({state})."


@contextlib.contextmanager
def busy_neighbour():
    """One process that computes and does nothing else."""
    process = start([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        stop(process)


# ---- elserve ----

class Server:
    """elserve (or the static server) on free ports of the loopback interface, for the time of a `with`."""

    def __init__(self, binary, work, name, model, precision="bfloat16", memory_precision="auto", attention="auto", memory="2GiB", max_rows=None,
                 start_timeout=300):
        self.binary, self.name, self.start_timeout = binary, name, start_timeout
        self.log, self.config, self.port_file = (f"{work}/{name}.{end}" for end in ("log", "yaml", "port"))
        self.values = {  # JSON is YAML
            "server": {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0", "drain_seconds": 5},
            "models": [{"name": "bench", "path": os.path.abspath(model), "device": "cpu", "precision": precision,
                        "memory_precision": memory_precision, "attention": attention, "memory": memory,
                        "encoder_cache": False, "single_flight": False} |  # documents come in a circle; peers compute each
                        ({"max_rows": max_rows} if max_rows else {})],
            "logging": {"level": "warning"},
        }

    def __enter__(self):
        begin = time.time()
        json.dump(self.values, open(self.config, "w"), indent=1)
        if os.path.exists(self.port_file):
            os.remove(self.port_file)
        command = [self.binary] + (["serve"] if os.path.basename(self.binary) == "elserve" else [])
        with open(self.log, "w") as log:
            self.process = start(command + ["--config", self.config, "--port-file", self.port_file], stdout=log, stderr=subprocess.STDOUT)
        end = time.time() + self.start_timeout
        while not os.path.exists(self.port_file):  # it appears whole, once the server serves
            if self.process.poll() is not None or time.time() > end:
                stop(self.process)
                raise RuntimeError(f"{self.name} does not serve, see {self.log}")
            time.sleep(0.01)
        self.start_seconds = time.time() - begin
        port, ops_port = open(self.port_file).read().split()
        self.address, self.metrics_url = f"127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}/metrics"
        return self

    def __exit__(self, *_):
        stop(self.process)

    def metrics(self):
        """{'name{labels}': value}, without buckets."""
        text = urllib.request.urlopen(self.metrics_url, timeout=10).read().decode()
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#" and "_bucket" not in line)
        return {key: float(value) for key, value in rows}

    def resident_bytes(self):
        return int(open(f"/proc/{self.process.pid}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def metric(self, name):
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)


PHASES = ("encode", "decode", "select", "search")


def phase_seconds(metrics):
    result = {p: sum(v for k, v in metrics.items() if k.startswith("elserve_step_phase_seconds_sum") and f'phase="{p}"' in k) for p in PHASES}
    result["step"] = sum(v for k, v in metrics.items() if k.startswith("elserve_step_seconds_sum"))
    return result


class Load:
    """tests/bench's load_generator."""

    def __init__(self, binary, timeout):
        self.binary, self.timeout = binary, timeout

    def __call__(self, server, documents, **flags):
        """What it printed, and `phases`: seconds a document of the server's steps meanwhile. True is a flag without a value."""
        command = [self.binary, documents, "--server", server.address]
        for key, value in {"timeout": self.timeout, **flags}.items():
            command += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        before = phase_seconds(server.metrics())
        result = json.loads(output_of(command, 4 * self.timeout))
        after = phase_seconds(server.metrics())
        result["phases"] = {p: (after[p] - before[p]) / max(1, result["ok"]) for p in after}
        if result["errors"]:
            print(f"{server.name}: {result['errors']}: {result['first_error']}", file=sys.stderr)
        return result


# ---- The peers ----

def peer(engine, model, timeout, python=sys.executable, **flags):
    """One line of peers.py."""
    command = [python, f"{HERE}/peers.py", engine, model]
    for key, value in flags.items():
        command += [f"--{key}", str(value)]
    return json.loads(output_of(command, timeout).splitlines()[-1])


def make_model(path, size="base"):
    """A random BART, unless it is there."""
    if not os.path.exists(f"{path}/model.safetensors"):
        print(f"making {path}", flush=True)
        os.makedirs(path, exist_ok=True)
        output_of([sys.executable, f"{HERE}/make_model.py", size, path, f"{ROOT}/models/debian-synopsis"], 600)


def write_documents(path, documents):
    with open(path, "w") as out:
        out.writelines(json.dumps(d) + "\n" for d in documents)
    return path


def markdown(header, rows):
    lines = [header, ["---"] * len(header)] + rows
    return "\n".join("| " + " | ".join(str(x) for x in line) + " |" for line in lines)
