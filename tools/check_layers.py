#!/usr/bin/env python3
"""Fails on any #include that the row of its layer in cmake/layers.txt does not allow.

Checks headway/<layer>/** and cli/**: Headway headers, third-party libraries and libtorch. Headers
in a folder `internal` may be included by their own layer only, and public headers may include only
what is installed. Not a style checker: see check_files.py.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)

# Folders whose headers stay at home: see cmake/install.cmake.
NOT_INSTALLED = {"internal", "reference", "cpu", "cuda"}
# First part of the include path -> the word for its library in layers.txt.
THIRD_PARTY = {
    "nlohmann": "json", "fmt": "fmt", "yaml-cpp": "yaml", "hwy": "hwy", "oniguruma.h": "onig",
    "utf8proc.h": "utf8proc", "mpi.h": "mpi", "spdlog": "spdlog", "CLI": "cli11",
    "ATen": "torch", "c10": "torch", "torch": "torch", "caffe2": "torch",
}
# C++ headers have no dot; of C and the system only these families are used.
SYSTEM = re.compile(r"^(sys|arpa|netinet|linux|bits)/|^(unistd|fcntl|signal|dlfcn|sched|pthread|"
                    r"poll|dirent|termios|errno|spawn|omp|cpuid|immintrin|cxxabi|execinfo|glob|"
                    r"time|stdlib|stdint|stddef|string|math)\.h$")


def read_table(path):
    """The rows of layers.txt: layer -> (layers it may include, words it may include)."""
    rows = {}
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        layer, torch, layers, words = (cell.strip() for cell in line.split("|"))
        rows[layer] = (set(layers.split()) | {layer},
                       set(words.split()) | ({"torch"} if torch == "yes" else set()))
    return rows


def problem(include, quoted, layer, rows, root, file):
    """What is wrong with one include of `file` (a path below root), or None."""
    layers, words = rows[layer]
    parts = include.split("/")
    if parts[0] in ("headway", "cli") and len(parts) > 1:
        target = parts[1] if parts[0] == "headway" else "cli"
        if not (root / include).is_file():
            return "no such file"
        if target not in layers:
            return f"layer {layer} may include {' '.join(sorted(layers))}"
        if "internal" in parts and target != layer:
            return f"private to layer {target}"
        public = file.suffix == ".h" and not NOT_INSTALLED & set(file.parts)
        if public and NOT_INSTALLED & set(parts):
            return "a public header is installed, and this one is not"
        return None
    word = THIRD_PARTY.get(parts[0])
    if word:
        return None if word in words else f"layer {layer} may use {' '.join(sorted(words))}"
    if quoted:
        return 'our own headers are included by their full path, "headway/…"'
    if "." not in include or SYSTEM.match(include):
        return None
    return "unknown library: name it in tools/check_layers.py and cmake/layers.txt"


def check(root):
    rows = read_table(root / "cmake" / "layers.txt")
    problems = []
    count = 0
    folders = sorted(p for p in (root / "headway").iterdir() if p.is_dir())
    for folder in folders + [root / "cli"]:
        layer = folder.name
        if layer not in rows:
            problems.append(f"{folder.relative_to(root)}: layer has no row in cmake/layers.txt")
            continue
        for file in sorted(folder.rglob("*")):
            if file.suffix not in (".h", ".cpp", ".cu"):
                continue
            count += 1
            for match in INCLUDE.finditer(file.read_text()):
                why = problem(match[2], match[1] == '"', layer, rows, root,
                              file.relative_to(root))
                if why:
                    problems.append(f"{file.relative_to(root)}: #include {match[2]}: {why}")
    return problems, count


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems, count = check(root)
    print("\n".join(problems) or f"check_layers: {count} files, every include inside its row")
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
