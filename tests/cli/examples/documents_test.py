#!/usr/bin/env python3
"""Commands, options, files and tests that README.md and docs/*.md name exist.

  documents_test.py PROGRAM SOURCE_FOLDER

Every line of a ```sh block is looked at. Not about what the commands print.
"""

import functools
import pathlib
import re
import shlex
import subprocess
import sys
import unittest

PROGRAM = ""
SOURCE = pathlib.Path()


def documents():
    pages = sorted((SOURCE / "docs").glob("*.md"))
    return [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *pages]


def shell_lines(text):
    """Lines of the sh blocks, with continued lines joined and prompts and comments dropped."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#\s.*$", "", line.removeprefix("$ ")).strip()
            if line and not line.startswith("#"):
                yield line


@functools.cache
def help_of(*command):
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout


def command_words(line):
    """The words after the program, without assignments of the environment; None for others."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


class Documents(unittest.TestCase):
    def check_options(self, line, words, text):
        for word in words:
            if word.startswith("--"):
                self.assertRegex(text, rf"(?<![\w-]){re.escape(word.split('=')[0])}(?![\w-])", line)

    def check_line(self, line):
        words = command_words(line)
        name = pathlib.Path(words[0]).name
        if name == "headway" and len(words) > 1 and not words[1].startswith("-"):
            self.check_options(line, words[2:], help_of(PROGRAM, words[1]))
        elif name == "headway":
            self.check_options(line, words[1:], help_of(PROGRAM))
        elif name == "make":
            targets = re.findall(r"^(\w+):", (SOURCE / "Makefile").read_text(), re.MULTILINE)
            for word in words[1:]:
                self.assertTrue("=" in word or word in targets, line)
        elif name == "compare_hf.py":
            self.check_options(line, words[1:], help_of(sys.executable, str(SOURCE / words[0])))
        elif "/" in words[0]:
            self.assertTrue((SOURCE / words[0]).exists(), line)
        for word in words:
            if word.startswith("examples/"):
                self.assertTrue((SOURCE / word).exists(), line)

    def test_commands(self):
        count = 0
        for document in documents():
            for line in shell_lines(document.read_text(encoding="utf-8")):
                with self.subTest(document=document.name, line=line):
                    self.check_line(line)
                    count += 1
        self.assertGreater(count, 10)

    def test_links(self):
        for document in documents():
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
                with self.subTest(document=document.name, target=target):
                    self.assertTrue((document.parent / target).exists())

    def test_paths(self):
        """`headway/…`, `tests/…` and the like in backquotes; `{h,cpp}` and `…` are spelt out."""
        pattern = r"`((?:headway|cli|tests|tools|cmake|examples|docs|bench)/[\w./{},*-]+)`"
        for document in documents():
            for path in re.findall(pattern, document.read_text("utf-8")):
                braces = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
                paths = [path] if not braces else [
                    braces[1] + middle + braces[3] for middle in braces[2].split(",")]
                for one in paths:
                    with self.subTest(document=document.name, path=one):
                        found = any(SOURCE.glob(one)) if "*" in one else (SOURCE / one).exists()
                        self.assertTrue(found)

    def test_named_tests(self):
        """A suite and a name in backquotes, joined by a dot, are a test."""
        sources = "\n".join(file.read_text("utf-8")
                            for file in sorted((SOURCE / "tests").rglob("*.cpp")))
        count = 0
        for document in documents():
            names = re.findall(r"`([A-Z]\w+)\.([A-Z]\w+)`", document.read_text("utf-8"))
            for suite, name in names:
                with self.subTest(document=document.name, test=f"{suite}.{name}"):
                    macro = r"(?:TEST|TEST_F|TEST_P|RC_GTEST_PROP)"
                    self.assertRegex(sources, rf"{macro}\(\s*{suite},\s*{name}\b")
                    count += 1
        self.assertGreater(count, 50)


if __name__ == "__main__":
    PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1])
