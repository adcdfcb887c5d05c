#!/usr/bin/env python3
"""Headway beside Hugging Face transformers: same weights, tokens, dtype and threads, in one run.

  tools/compare_hf.py --model runs/demo            a run or checkpoint folder of yours
  tools/compare_hf.py --shape llama-tiny           a built-in shape with random weights

Prints the differences of logits and loss, then the time of a training step (forward, backward,
AdamW) and of greedy decoding, in turn A B A B, each side in its own process, with peak memory.
The first use makes a virtual environment with torch and transformers from PyPI (--python: use that
interpreter instead). Baseline: eager transformers, attention "sdpa", AdamW(fused=True).

Not a test: timings of a busy machine say little. tests/golden holds the numbers that must agree.
"""

import argparse
import array
import json
import os
import pathlib
import platform
import random
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from compare_hf_shapes import SHAPES

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIDE = ROOT / "tools" / "compare_hf_side.py"
PACKAGES = ("torch==2.11.0", "transformers==5.23.0")
FAMILIES = ("llama", "qwen3", "mistral", "step3p5", "qwen3_moe", "minimax_m2")
LEARNING_RATE = 1e-4
MAX_COMPARED = 1 << 26  # logits elements
UNSUPPORTED = 4  # exit code of headway


class Failure(Exception):
    """What ends the program with one line."""


def run(command, env):
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n"
                      f"{done.stderr.strip()[-2000:]}")
    return done.stdout


def interpreter(given):
    """The Python that has torch and transformers; made on the first use."""
    if given:
        return pathlib.Path(given)
    folder = ROOT / ".venv-compare"
    python = folder / "bin" / "python"
    marker = folder / "complete"
    if not marker.exists():
        print(f"making {folder} with {' '.join(PACKAGES)} (several minutes)", file=sys.stderr)
        run([sys.executable, "-m", "venv", "--clear", str(folder)], None)
        run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], None)
        marker.write_text("\n".join(PACKAGES) + "\n")
    return python


def write_tokens(path, batch, length, vocab, seed):
    """A safetensors file with input_ids and labels, both int64 [batch, length] and the same.

    A shorter length gives the beginning of every row of a longer one.
    """
    rows = [random.Random(f"{seed}:{row}") for row in range(batch)]
    ids = array.array("q", (draw.randrange(vocab) for draw in rows for _ in range(length)))
    if sys.byteorder == "big":
        ids.byteswap()
    data = ids.tobytes()
    header = {name: {"dtype": "I64", "shape": [batch, length],
                     "data_offsets": [begin, begin + len(data)]}
              for name, begin in (("input_ids", 0), ("labels", len(data)))}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + data)


class Worker:
    """A child process that does one round for every line it gets."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(list(map(str, command)), env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = self._read()
        self.loaded_bytes = self._status("VmRSS")

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{shlex.join(self.process.args)} ended with {self.process.wait()}")
        return json.loads(line)

    def _status(self, key):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
        raise Failure(f"no {key} in /proc")

    def round(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def finish(self):
        """Peak memory of the process; ends it."""
        peak = self._status("VmHWM")
        self.process.stdin.close()
        self.process.wait()
        return peak


class Comparison:
    """One pair of folders with the same weights, and what is measured on them."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = pathlib.Path(folder)
        self.python = interpreter(options.python)
        self.headway = pathlib.Path(options.headway)
        if not self.headway.exists():
            raise Failure(f"{self.headway} is not built: run make build")
        self.env = {**os.environ, "HEADWAY_THREADS": str(options.threads),
                    "COMPARE_THREADS": str(options.threads), "COMPARE_DTYPE": options.dtype,
                    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def side(self, *arguments):
        return [str(self.python), str(SIDE), *map(str, arguments)]

    def prepare(self):
        """Native folder and its export; both hold the same weights."""
        if self.options.shape:
            made = self.folder / "made"
            made.mkdir()
            config = SHAPES[self.options.shape][0]
            (made / "config.json").write_text(json.dumps(config))
            run(self.side("make", made, self.options.seed), self.env)
            self.ours = self.folder / "native"
            run([self.headway, "convert", made, self.ours, "--to", "headway"], self.env)
            families = [config["model_type"]]
        else:
            self.ours = pathlib.Path(self.options.model)
            families = [self.options.family] if self.options.family else FAMILIES
        self.theirs = self.folder / "export"
        self.family = self.export(families)
        self.facts = json.loads(run([self.headway, "validate", self.ours, "--json"], self.env))
        self.vocab = json.loads((self.theirs / "config.json").read_text())["vocab_size"]

    def export(self, families):
        for family in families:
            done = subprocess.run([self.headway, "convert", self.ours, self.theirs, "--to", family,
                                   "--verify"], env=self.env, capture_output=True, text=True)
            if done.returncode == 0:
                return family
            if done.returncode != UNSUPPORTED:
                break
        raise Failure(f"export as {' | '.join(families)}:\n{done.stderr.strip()}")

    def tokens(self, name, batch, length):
        path = self.folder / f"{name}.safetensors"
        write_tokens(path, batch, length, self.vocab, self.options.seed)
        return path

    def evaluate(self, tokens, out, what):
        return json.loads(run([self.headway, "eval", "--model", self.ours, "--tokens", tokens,
                               "--out", out, "--with", what, "--dtype", self.options.dtype,
                               "--json"], self.env))

    def logits(self):
        batch, length = self.options.batch, self.options.length
        compared = max(1, min(length, MAX_COMPARED // (batch * self.vocab)))
        out = self.folder / "ours.safetensors"
        tokens = self.tokens("all", batch, length)
        loss = self.evaluate(tokens, out, "loss")["loss"]
        self.evaluate(self.tokens("some", batch, compared), out, "logits")
        theirs = json.loads(run(self.side("logits", self.theirs, tokens, compared, out), self.env))
        out.unlink()
        self.note_versions(theirs)
        return {"max_difference": theirs["max_difference"],
                "mean_difference": theirs["mean_difference"], "std": theirs["logits_std"],
                "compared": theirs["compared"], "loss_headway": loss,
                "loss_transformers": theirs["loss"],
                "loss_difference": abs(loss - theirs["loss"])}

    def note_versions(self, facts):
        self.versions = {key: facts[key] for key in ("torch", "transformers")}

    def in_turn(self, ours, theirs):
        """Rounds of both sides A B A B, after warm-up; stops early when time is up."""
        first, second = Worker(ours, self.env), Worker(theirs, self.env)
        self.note_versions(second.facts)
        for _ in range(self.options.warm_up):
            first.round(), second.round()
        rounds = []
        began = time.monotonic()
        while len(rounds) < self.options.rounds:
            rounds.append((first.round(), second.round()))
            time.sleep(0.02)  # idle threads of the last round stop spinning
            if len(rounds) >= 3 and time.monotonic() - began > self.options.seconds:
                break
        memory = [{"peak_bytes": worker.finish(), "loaded_bytes": worker.loaded_bytes}
                  for worker in (first, second)]
        return rounds, memory

    def step(self):
        tokens = self.tokens("step", self.options.batch, self.options.length)
        ours = [self.headway, "bench", "step", "--model", self.ours, "--tokens", tokens,
                "--lr", LEARNING_RATE, "--dtype", self.options.dtype, "--on-request"]
        rounds, memory = self.in_turn(ours, self.side("step", self.theirs, tokens, LEARNING_RATE))
        report = summary(rounds, memory)
        report["tokens"] = rounds[0][0]["tokens"]
        report["max_loss_difference"] = max(abs(a["loss"] - b["loss"]) for a, b in rounds)
        report["last_loss"] = [side["loss"] for side in rounds[-1]]
        report["peak_memory_share"] = memory[0]["peak_bytes"] / memory[1]["peak_bytes"]
        return report

    def decode(self):
        tokens = self.tokens("prompt", 1, self.options.context)
        count = self.options.new_tokens
        ours = [self.headway, "bench", "decode", "--model", self.ours, "--tokens", tokens,
                "--new-tokens", count, "--dtype", self.options.dtype, "--on-request"]
        rounds, memory = self.in_turn(ours, self.side("decode", self.theirs, tokens, count))
        report = summary(rounds, memory)
        report["context"], report["new_tokens"] = self.options.context, count
        for side, name in enumerate(("headway", "transformers")):
            report[name]["tokens_per_s"] = (count - 1) / (report[name]["median_ms"] / 1e3)
        ids = [rounds[0][side]["token_ids"] for side in (0, 1)]
        report["same_token_ids"] = ids[0] == ids[1]
        report["equal_prefix"] = next((i for i, (a, b) in enumerate(zip(*ids)) if a != b), count)
        if "generate_seconds" in rounds[0][1]:
            seconds = statistics.median(b["generate_seconds"] for _, b in rounds)
            report["generate"] = {"median_ms": seconds * 1e3, "tokens_per_s": (count - 1) / seconds,
                                  "ratio": seconds * 1e3 / report["headway"]["median_ms"]}
        return report


def summary(rounds, memory):
    """Times of both sides, and how many times as fast the first is."""
    times = [[answers[side]["seconds"] * 1e3 for answers in rounds] for side in (0, 1)]
    report = {"rounds": len(rounds)}
    for name, samples, used in zip(("headway", "transformers"), times, memory):
        report[name] = {"min_ms": min(samples), "median_ms": statistics.median(samples),
                        "max_ms": max(samples), **used}
    for of in ("min", "median"):
        report[f"ratio_of_{of}s"] = (report["transformers"][f"{of}_ms"] /
                                     report["headway"][f"{of}_ms"])
    return report


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def compare(options):
    with tempfile.TemporaryDirectory(prefix="compare-hf-") as folder:
        comparison = Comparison(options, folder)
        comparison.prepare()
        report = {"command": shlex.join(["tools/compare_hf.py", *sys.argv[1:]]),
                  "cpu": processor(), "cores": os.cpu_count(), "threads": options.threads,
                  "dtype": options.dtype,
                  "headway": run([comparison.headway, "--version"], comparison.env).split()[1],
                  "model": options.shape or options.model, "family": comparison.family,
                  "parameters": comparison.facts["parameters"],
                  "layers": comparison.facts["layers"],
                  "tokens": [options.batch, options.length]}
        for part in options.parts:
            report[part] = getattr(comparison, part)()
        report.update(getattr(comparison, "versions", {}))
        return report


def print_side_by_side(name, part):
    for side in ("headway", "transformers"):
        of = part[side]
        speed = f"  {of['tokens_per_s']:9.1f} tokens/s" if "tokens_per_s" in of else ""
        print(f"{name:7} {side:13} min {of['min_ms']:9.2f} ms  median {of['median_ms']:9.2f} ms"
              f"{speed}  peak memory {of['peak_bytes'] / 2**20:7.0f} MiB"
              f" ({of['loaded_bytes'] / 2**20:.0f} when loaded)")
    print(f"{name:7} ratio         min {part['ratio_of_mins']:9.2f} x   median "
          f"{part['ratio_of_medians']:9.2f} x   ({part['rounds']} rounds in turn)")


def print_report(report):
    print(f"{report['model']}: {report['family']}, {report['layers']} layers, "
          f"{report['parameters']:,} parameters, {report['dtype']}, {report['threads']} threads, "
          f"{report['cpu']}")
    if part := report.get("logits"):
        print(f"logits  max difference {part['max_difference']:.3g}, mean "
              f"{part['mean_difference']:.3g} (their spread is {part['std']:.3g}), "
              f"{'x'.join(map(str, part['compared']))} compared")
        print(f"loss    {part['loss_headway']:.7f} and {part['loss_transformers']:.7f}, "
              f"difference {part['loss_difference']:.3g}")
    if part := report.get("step"):
        print_side_by_side("step", part)
        print(f"step    loss after the last: {part['last_loss'][0]:.6f} and "
              f"{part['last_loss'][1]:.6f}, largest difference {part['max_loss_difference']:.3g}; "
              f"memory {part['peak_memory_share']:.2f} of theirs")
    if part := report.get("decode"):
        print_side_by_side("decode", part)
        if "generate" in part:
            print(f"decode  their generate(): {part['generate']['tokens_per_s']:.1f} tokens/s, "
                  f"ratio {part['generate']['ratio']:.2f} x")
        print(f"decode  {part['equal_prefix']} of {part['new_tokens']} greedy tokens equal")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="run or checkpoint folder")
    model.add_argument("--shape", choices=SHAPES, help="built-in shape with random weights")
    parser.add_argument("--family", choices=FAMILIES, help="export as (default: the first fit)")
    parser.add_argument("--parts", help="of logits,step,decode (default: all, or the shape's)")
    parser.add_argument("--batch", type=int, help="sequences of a step (default 1)")
    parser.add_argument("--length", type=int, help="tokens of each (default 512)")
    parser.add_argument("--context", type=int, default=512, help="prompt tokens of decode")
    parser.add_argument("--new-tokens", type=int, default=128, help="of decode")
    parser.add_argument("--rounds", type=int, default=11, help="counted rounds of each side")
    parser.add_argument("--seconds", type=float, default=120, help="fewer rounds after this long")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds that do not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "float64", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=1, help="of weights and tokens")
    parser.add_argument("--headway", default=str(ROOT / "build/release/bin/headway"))
    parser.add_argument("--python", help="interpreter with torch and transformers")
    parser.add_argument("--save", help="also write the JSON report to this file")
    parser.add_argument("--json", action="store_true", help="JSON report instead of text")
    options = parser.parse_args(arguments)
    _, (batch, length), parts = SHAPES.get(options.shape, (None, (1, 512), None))
    options.batch, options.length = options.batch or batch, options.length or length
    options.parts = options.parts.split(",") if options.parts else list(
        parts or ("logits", "step", "decode"))
    unknown = set(options.parts) - {"logits", "step", "decode"}
    if unknown:
        parser.error(f"--parts {','.join(sorted(unknown))}: allowed logits, step, decode")
    return options


def main():
    options = parse(sys.argv[1:])
    try:
        report = compare(options)
    except Failure as failure:
        print(f"compare_hf: error: {failure}", file=sys.stderr)
        return 1
    if options.save:
        pathlib.Path(options.save).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1)) if options.json else print_report(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
