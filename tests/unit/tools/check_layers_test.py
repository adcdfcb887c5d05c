"""check_layers accepts what a row allows and names every include that it does not."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import check_layers  # noqa: E402


class CheckLayers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        self.write("cmake/layers.txt", (ROOT / "cmake" / "layers.txt").read_text())
        self.write("cli/main.cpp", "")
        self.write("headway/base/error.h", "")
        self.write("headway/ops/norm.h", "")
        self.write("headway/ops/internal/row.h", "")

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def problems(self, name, include):
        self.write(name, f"#include {include}\n")
        return check_layers.check(self.root)[0]

    def test_allowed(self):
        for name, include in [
                ("headway/nn/a.h", '"headway/ops/norm.h"'),
                ("headway/nn/a.h", '"headway/base/error.h"'),
                ("headway/nn/a.h", "<ATen/core/Tensor.h>"),
                ("headway/nn/a.h", "<vector>"),
                ("headway/ops/a.cpp", '"headway/ops/internal/row.h"'),
                ("headway/ops/a.cpp", '"hwy/highway.h"'),
                ("headway/base/a.cpp", "<unistd.h>"),
                ("headway/config/a.cpp", "<yaml-cpp/yaml.h>"),
                ("cli/a.cpp", "<CLI/CLI.hpp>")]:
            self.assertEqual(self.problems(name, include), [], (name, include))
            (self.root / name).unlink()

    def test_forbidden(self):
        for name, include, text in [
                ("headway/base/a.h", '"headway/ops/norm.h"', "layer base may include base"),
                ("headway/spec/a.h", "<ATen/core/Tensor.h>", "layer spec may use"),
                ("headway/nn/a.h", '"headway/ops/internal/row.h"', "private to layer ops"),
                ("headway/ops/a.h", '"headway/ops/internal/row.h"', "public header"),
                ("headway/nn/a.h", "<spdlog/spdlog.h>", "layer nn may use"),
                ("headway/nn/a.h", '"attention.h"', "full path"),
                ("headway/nn/a.h", '"headway/ops/gone.h"', "no such file"),
                ("headway/nn/a.h", "<boost/any.hpp>", "unknown library"),
                ("headway/extra/a.h", "<vector>", "no row")]:
            found = self.problems(name, include)
            self.assertEqual(len(found), 1, (name, include, found))
            self.assertIn(text, found[0])
            (self.root / name).unlink()
            if "extra" in name:
                (self.root / name).parent.rmdir()

    def test_table_is_acyclic(self):
        rows = check_layers.read_table(ROOT / "cmake" / "layers.txt")
        order = list(rows)
        for layer, (allowed, _) in rows.items():
            for other in allowed - {layer}:
                self.assertLess(order.index(other), order.index(layer), (layer, other))


if __name__ == "__main__":
    unittest.main()
