#!/usr/bin/env python3
"""Encoding speed of Headway and of PyPI `tokenizers` on the same text, one thread each.

  tools/compare_tokenizers.py --headway build/release/bin/headway --tokenizer TOKENIZER.json TEXT …

Runs both in turn, several times, and prints JSON: MB/s of every round, medians and their ratio. The
other library runs in a process of its own with RAYON_NUM_THREADS=1. Needs PyPI `tokenizers`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

OTHER = """
import json, sys, time
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.no_truncation()
tokenizer.no_padding()
text = open(sys.argv[2], encoding="utf-8", newline="").read()
size = len(text.encode()) / 1e6
lines = text.split("\\n")
def best(work):
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return size / sorted(times[1:])[1]
print(json.dumps({
    "whole text": best(lambda: tokenizer.encode(text, add_special_tokens=False)),
    "line by line": best(lambda: tokenizer.encode_batch_fast(lines, add_special_tokens=False)),
}))
"""


def run_ours(arguments, file):
    command = [arguments.headway, "bench", "tokenizer", "--tokenizer", arguments.tokenizer,
               "--file", file, "--rounds", "3", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = {result["name"]: result["mb_per_s"] for result in json.loads(output)["results"]}
    return {"whole text": results["ids and offsets, whole text"],
            "line by line": results["ids, line by line"],
            "whole text, ids alone": results["ids, whole text"]}


def run_other(arguments, file):
    environment = dict(os.environ, RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    command = [sys.executable, "-c", OTHER, arguments.tokenizer, file]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True,
                                     env=environment).stdout)


def compare(arguments, file):
    ours, other = [], []
    for _ in range(arguments.rounds):
        ours.append(run_ours(arguments, file))
        other.append(run_other(arguments, file))
    medians = {}
    for name in other[0]:
        mine = statistics.median(round_[name] for round_ in ours)
        theirs = statistics.median(round_[name] for round_ in other)
        medians[name] = {"headway_mb_per_s": mine, "tokenizers_mb_per_s": theirs,
                         "ratio": mine / theirs}
    return {"text": pathlib.Path(file).name, "medians": medians, "headway": ours,
            "tokenizers": other}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--headway", default="build/release/bin/headway")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("texts", nargs="+")
    arguments = parser.parse_args()
    print(json.dumps({"tokenizer": pathlib.Path(arguments.tokenizer).parent.name,
                      "results": [compare(arguments, file) for file in arguments.texts]},
                     indent=1))


main()
