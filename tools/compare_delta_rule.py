#!/usr/bin/env python3
"""The gated delta rule beside transformers' own torch form of it: time and memory, in one run.

  tools/compare_delta_rule.py --python PYTHON      an interpreter with torch and transformers

Both sides run forward and backward at 32 heads of 128 channels over 2048 tokens in float32, in
turn A B A B, each in its own process. Baseline: torch_chunk_gated_delta_rule of
modeling_qwen3_next, eager. Memory of the baseline is the growth of its resident set over the
inputs; ours is that of the whole process (inputs, gradients and code included).

Not a test: timings of a busy machine say little.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

BASELINE = """
import json, resource, sys, time
import torch
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule as rule
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
heads, dim, length = 32, 128, 2048
make = lambda *s: torch.randn(1, length, *s)
q, k, v = (make(heads, dim).requires_grad_() for _ in range(3))
beta = make(heads).sigmoid().requires_grad_()
g = (-torch.rand(1, length, heads)).requires_grad_()
cotangent = make(heads, dim)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
seconds = []
for _ in range(2):
    start = time.perf_counter()
    out, _ = rule(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True)
    out.backward(cotangent)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(seconds), "extra_bytes": peak() - before}))
"""


def run(command, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HEADWAY_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1] if "-c" in command else done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="with torch and transformers")
    parser.add_argument("--headway", default=str(ROOT / "build/release/bin/headway"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ours, theirs = [], []
    for _ in range(options.rounds):
        report = run([options.headway, "bench", "delta_rule", "--rounds", "3", "--json"],
                     options.threads)
        seconds = report["results"][0]["ours"]["min_ms"] / 1e3
        ours.append((seconds, report["peak_memory_gib"] * 2**30))
        answer = run([options.python, "-c", BASELINE, str(options.threads)], options.threads)
        theirs.append((answer["seconds"], answer["extra_bytes"]))
    for name, side in (("headway", ours), ("transformers", theirs)):
        print(f"{name:13s} {min(s for s, _ in side):7.3f} s  "
              f"(median {statistics.median(s for s, _ in side):.3f} s)  "
              f"{max(m for _, m in side) / 2**30:6.2f} GiB")
    print(f"ratio         {min(s for s, _ in theirs) / min(s for s, _ in ours):7.1f}")


if __name__ == "__main__":
    main()
