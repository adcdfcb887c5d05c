#!/usr/bin/env python3
"""Fails on a source file that breaks a rule about files: length, head comment, guard, layout.

  * C++, CMake, Python and shell files have fewer than 400 lines, none longer than 100 columns;
  * C++ files begin with a comment that says what they are, headers have `#pragma once`
    (*-inl.h, compiled once per Highway target: a guard by HWY_TARGET_TOGGLE);
  * text ends with one newline and holds no tab (Makefile aside) and no trailing blank;
  * no marker of unfinished work.
Not about what a file includes: see check_layers.py.
"""

import pathlib
import subprocess
import sys

MAX_LINES = 400
MAX_COLUMNS = 100
CODE = {".h", ".cpp", ".cu", ".py", ".cmake", ".sh"}
# Split, so that this file passes its own check.
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X:")


def tracked_files(root):
    """Files git knows, or in an exported tree without git every file outside build and .deps."""
    try:
        listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], check=True,
                                 capture_output=True, text=True).stdout
        names = [name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = {"build", ".deps", ".git", "runs"}
        names = [str(p.relative_to(root)) for p in root.rglob("*")
                 if p.is_file() and not skipped & set(p.relative_to(root).parts)]
    return [root / name for name in names if (root / name).is_file()]


def is_code(file):
    if file.suffix in CODE or file.name == "CMakeLists.txt":
        return True
    if file.suffix:
        return False
    with file.open("rb") as stream:
        return stream.read(2) == b"#!"


def check_code(file, text):
    """Problems of one source file, as (line, what)."""
    lines = text.split("\n")
    if lines[-1] != "" or (len(lines) > 1 and lines[-2] == ""):
        yield len(lines), "must end with exactly one newline"
    if len(lines) - 1 >= MAX_LINES:
        yield len(lines) - 1, f"{len(lines) - 1} lines, allowed fewer than {MAX_LINES}"
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS and "http" not in line:
            yield number, f"{len(line)} columns, allowed {MAX_COLUMNS}"
        if line != line.rstrip():
            yield number, "trailing blank"
        if "\t" in line:
            yield number, "tab"
        if any(marker in line for marker in UNFINISHED):
            yield number, "marker of unfinished work"
    if file.suffix in (".h", ".cpp", ".cu") and not text.startswith("//"):
        yield 1, "no head comment that says what the file is and is not for"
    # Highway compiles an *-inl.h once per target; its guard must let it in again.
    guard = "HWY_TARGET_TOGGLE" if file.name.endswith("-inl.h") else "\n#pragma once\n"
    if file.suffix == ".h" and guard not in text:
        yield 1, f"no {guard.strip()}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    count = 0
    problems = []
    for file in tracked_files(root):
        if not is_code(file):
            continue
        count += 1
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            problems.append(f"{file.relative_to(root)}: not UTF-8")
            continue
        problems += [f"{file.relative_to(root)}:{line}: {what}"
                     for line, what in check_code(file, text)]
    print("\n".join(problems) or f"check_files: {count} files")
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
