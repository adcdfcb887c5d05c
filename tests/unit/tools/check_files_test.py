"""check_files finds each thing it promises to find, and nothing in a good file."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import check_files  # noqa: E402

HEAD = "// What this is.\n#pragma once\n"


class CheckFiles(unittest.TestCase):
    def found(self, name, text):
        return [what for _, what in check_files.check_code(pathlib.Path(name), text)]

    def test_good(self):
        self.assertEqual(self.found("a.h", HEAD + "int a;\n"), [])

    def test_bad(self):
        for text, what in [
                (HEAD + "int a; \n", "trailing blank"),
                (HEAD + "\tint a;\n", "tab"),
                (HEAD + "int a;", "one newline"),
                (HEAD + "int a;\n\n", "one newline"),
                (HEAD + "int " + "a" * 100 + ";\n", "columns"),
                (HEAD + "int a;\n" * 400, "lines, allowed fewer than 400"),
                (HEAD + "// TO" + "DO\n", "unfinished"),
                ("// What this is.\nint a;\n", "#pragma once"),
                ("#pragma once\n#pragma once\n", "head comment")]:
            found = self.found("a.h", text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertIn(what, found[0])

    def test_headers_of_highway_have_their_own_guard(self):
        guard = "#if defined(A) == defined(HWY_TARGET_TOGGLE)\n#endif\n"
        self.assertEqual(self.found("a-inl.h", "// What.\n" + guard), [])
        self.assertEqual(self.found("a-inl.h", HEAD), ["no HWY_TARGET_TOGGLE"])


if __name__ == "__main__":
    unittest.main()
