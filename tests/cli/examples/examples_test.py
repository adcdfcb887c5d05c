#!/usr/bin/env python3
"""Every examples/*.yaml is validated, drawn, trained for a few steps, sampled and exported.

  examples_test.py PROGRAM SOURCE_FOLDER

Not about quality of training: the demo checks that.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""
SOURCE = pathlib.Path()
# The published family each example can be written as; None: no family holds its features.
EXPORTS = {"deepseek_sparse": "deepseek_v32", "demo": "step3p5", "gemma_like": None,
           "hybrid": "qwen3_next", "llama": "llama", "moe": None, "mtp": "step3p5"}
STEPS = 3
# What an example needs besides to run so few steps.
MORE = {"deepseek_sparse": ["train.index_warmup.steps=1"]}


# One thread: the models are tiny, and tests run beside each other.
ENVIRONMENT = {**os.environ, "HEADWAY_THREADS": "1"}


def headway(*arguments, code=0):
    done = subprocess.run([PROGRAM, *map(str, arguments)], env=ENVIRONMENT, capture_output=True,
                          text=True)
    if done.returncode != code:
        raise AssertionError(f"headway {' '.join(map(str, arguments))} ended with "
                             f"{done.returncode}, not {code}:\n{done.stderr}")
    return done


class Examples(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)
        self.text = self.folder / "text.txt"
        self.text.write_text("".join(f"line {n}: int f{n}(int x) {{ return x + {n}; }}\n"
                                     for n in range(120)))

    def overrides(self, output):
        return [f"data.train=[{self.text}]", "data.sequence_length=64",
                "data.validation_fraction=0.05", "train.batch_tokens=128",
                "train.micro_batch_tokens=64", f"train.steps={STEPS}",
                "train.schedule.warmup_steps=1", "train.checkpoint_every=0",
                "train.evaluate_every=0", f"output={output}"]

    def check(self, example):
        report = json.loads(headway("validate", example, "--json").stdout)
        self.assertTrue(report["valid"])
        self.assertIn("parameters", headway("inspect", example).stdout)
        run = self.folder / "run"
        outcome = json.loads(
            headway("train", example, *self.overrides(run), *MORE.get(example.stem, []),
                    "--json").stdout)
        self.assertEqual((outcome["end"], outcome["step"]), ("finished", STEPS))
        lines = (run / "metrics.jsonl").read_text().splitlines()
        metrics = [json.loads(line) for line in lines]
        self.assertEqual(metrics[-1]["step"], STEPS)
        if example.stem == "moe":
            self.check_routers(metrics[-1])
        sample = json.loads(headway("generate", "--model", run, "--prompt", "int ",
                                    "--max-new-tokens", 8, "--json").stdout)
        self.assertEqual(len(sample["token_ids"]), 4 + 8)
        self.check_chat(run)
        self.check_prompts(run)
        self.check_export(run, EXPORTS[example.stem])
        self.check_rounds(run)

    def check_chat(self, run):
        """The example chat, by the example template."""
        template = SOURCE / "examples" / "chat.jinja"
        chat = SOURCE / "examples" / "chat.json"
        answer = json.loads(headway("generate", "--model", run, "--chat", chat, "--chat-template",
                                    template, "--max-new-tokens", 3, "--json").stdout)
        question = json.loads(chat.read_text())["messages"][1]["content"]
        prompt = bytes(answer["token_ids"][:-3]).decode()
        self.assertTrue(prompt.endswith(f"[user]{question}\n[assistant]"), prompt)

    def check_prompts(self, run):
        """examples/prompts.jsonl as one batch: as many lines, each as if it were alone."""
        prompts = SOURCE / "examples" / "prompts.jsonl"
        wanted = [json.loads(line) for line in prompts.read_text().splitlines()]
        command = ["generate", "--model", run, "--dtype", "float64", "--max-new-tokens", 6]
        printed = headway(*command, "--prompts", prompts).stdout.splitlines()
        self.assertEqual(len(printed), len(wanted))
        alone = json.loads(headway(*command, "--prompt", wanted[0]["prompt"], "--json").stdout)
        self.assertEqual(json.loads(printed[0])["token_ids"], alone["token_ids"])
        self.assertEqual(json.loads(printed[1])["timing"]["new_tokens"], 40)

    def check_routers(self, line):
        router = line["router"]
        self.assertEqual(router["layers"], [1, 2, 3, 4])
        self.assertTrue(all(load >= 1 for load in router["load"]))
        self.assertTrue(all(0 < entropy <= 1 for entropy in router["entropy"]))
        self.assertEqual(router["drop_rate"], [0, 0, 0, 0])
        self.assertGreater(line["auxiliary_loss"], 0)

    def test_drafts(self):
        """The example of multi-token prediction learns at every depth; drafts change nothing."""
        run = self.folder / "drafts"
        headway("train", SOURCE / "examples" / "mtp.yaml", *self.overrides(run), "train.steps=60",
                "train.batch_tokens=512", "train.micro_batch_tokens=512",
                "train.evaluate_every=60", "train.dtype=float32")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertLess(lines[-1]["loss"], lines[1]["loss"] - 2)
        self.assertLess(lines[-1]["val_loss"], lines[0]["val_loss"] - 2)
        for depth in range(2):
            self.assertLess(lines[-1]["mtp_loss"][depth], lines[1]["mtp_loss"][depth] - 2)
            self.assertLess(lines[-1]["val_mtp_loss"][depth], lines[0]["val_mtp_loss"][depth] - 2)
        for temperature in (0, 0.8):
            command = ["generate", "--model", run, "--prompt", "line 7", "--max-new-tokens", 60,
                       "--dtype", "float64", "--temperature", temperature, "--json"]
            plain = json.loads(headway(*command).stdout)
            drafted = json.loads(headway(*command, "--draft-tokens", 2).stdout)
            self.assertEqual(drafted["token_ids"], plain["token_ids"])
            self.assertNotIn("drafts", plain)
            self.assertGreater(drafted["drafts"]["acceptance_rate"], 0.1)
            self.assertLess(drafted["drafts"]["passes"], 60)
        error = headway("generate", "--model", run, "--prompts",
                        SOURCE / "examples" / "prompts.jsonl", "--max-new-tokens", 3,
                        "--draft-tokens", 1, code=2).stderr
        self.assertIn("--draft-tokens", error)

    def check_rounds(self, run):
        """Rounds on request, as tools/compare_hf.py asks for them."""
        command = [PROGRAM, "bench", "step", "--model", run, "--length", 16, "--on-request"]
        done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, input="go\n" * 6,
                              capture_output=True, text=True, check=True)
        ready, *rounds = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(ready, {"ready": True, "threads": 1})
        self.assertEqual([answer["tokens"] for answer in rounds], [16] * 6)
        self.assertLess(rounds[-1]["loss"], rounds[0]["loss"])  # the same tokens every time
        report = json.loads(headway("bench", "decode", "--model", run, "--length", 8,
                                    "--new-tokens", 4, "--rounds", 3, "--json").stdout)
        self.assertGreater(report["results"][0]["tokens_per_s"], 0)

    def test_fine_tuning(self):
        """A small model, an adapter on the example's conversations, and the merged model."""
        base, tuned = self.folder / "base", self.folder / "tuned"
        headway("train", SOURCE / "examples" / "demo.yaml", *self.overrides(base))
        tuning = SOURCE / "examples" / "fine_tuning"
        headway("train", tuning / "adapter.yaml", f"model.hf={base}/latest",
                f"data.train=[{tuning / 'chats.jsonl'}]",
                f"data.chat.chat_template={SOURCE / 'examples' / 'chat.jinja'}",
                "train.steps=2", "train.batch_tokens=512", "train.schedule.warmup_steps=1",
                f"output={tuned}")
        adapter = tuned / "checkpoints" / "step-2"
        config = json.loads((adapter / "adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"]), (8, 16))
        self.assertIn("g_proj", config["target_modules"])
        headway("convert", tuned, self.folder / "merged", "--to", "step3p5", "--verify")
        ids = [json.loads(headway("generate", "--model", *model, "--token-ids", "105,110,116",
                                  "--max-new-tokens", 5, "--json").stdout)["token_ids"]
               for model in ((tuned,), (base, "--adapter", tuned), (self.folder / "merged",))]
        self.assertEqual(ids, [ids[0]] * 3)

    def test_the_hybrid_stack_learns(self):
        """examples/hybrid.yaml for real: Gated DeltaNet and full layers with experts."""
        run = self.folder / "hybrid"
        headway("train", SOURCE / "examples" / "hybrid.yaml", f"data.train=[{self.text}]",
                "data.sequence_length=96", "train.batch_tokens=384", "train.steps=40",
                "train.schedule.warmup_steps=4", "train.checkpoint_every=0",
                "train.evaluate_every=0", f"output={run}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if line["step"] > 0]
        self.assertLess(losses[-1], 0.6 * losses[0])

    def test_indexers_learn_first_and_then_everything(self):
        """examples/deepseek_sparse.yaml for real: in the warm-up only the indexers' loss falls."""
        run = self.folder / "sparse"
        settings = [f"data.train=[{self.text}]", "data.sequence_length=96",
                    "train.batch_tokens=384", "train.schedule.warmup_steps=4",
                    "train.checkpoint_every=0", "train.evaluate_every=0", f"output={run}",
                    "train.steps=60", "train.index_warmup={steps: 20, lr: 3e-3}"]
        headway("train", SOURCE / "examples" / "deepseek_sparse.yaml", *settings)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = {line["step"]: line for line in lines if line["step"] > 0}
        warm = [steps[step] for step in range(1, 21)]
        self.assertTrue(all(line["lr"] == 3e-3 for line in warm))
        self.assertLess(warm[-1]["index_loss"], 0.7 * warm[0]["index_loss"])
        self.assertAlmostEqual(warm[-1]["loss"], warm[0]["loss"], delta=0.1)
        self.assertLess(steps[60]["loss"], 0.6 * warm[0]["loss"])

    def test_a_run_stopped_in_the_warm_up_goes_on_in_it(self):
        example = SOURCE / "examples" / "deepseek_sparse.yaml"
        settings = ["train.index_warmup.steps=3", "train.steps=5"]
        runs = [self.folder / "whole", self.folder / "stopped"]
        headway("train", example, *self.overrides(runs[0]), *settings)
        headway("train", example, *self.overrides(runs[1]), *settings, "train.steps=2")
        headway("train", example, *self.overrides(runs[1]), *settings, "--resume")
        weights = [(run / "checkpoints" / "step-5" / "model.safetensors").read_bytes()
                   for run in runs]
        self.assertEqual(weights[0], weights[1])

    def test_bench_names_what_it_needs(self):
        self.assertIn("--model", headway("bench", "step", code=2).stderr)
        self.assertIn("--model", headway("bench", "rows", "--on-request", code=2).stderr)
        self.assertIn("step | decode", headway("bench", "rows", "--model", "x", code=2).stderr)

    def check_export(self, run, family):
        target = self.folder / "export"
        if family is None:
            error = headway("convert", run, target, "--to", "llama", code=4).stderr
            self.assertIn("llama", error)
            self.assertFalse(target.exists())
            return
        headway("convert", run, target, "--to", family, "--verify")
        config = json.loads((target / "config.json").read_text())
        self.assertEqual(config["model_type"], family)
        ids = [json.loads(headway("generate", "--model", folder, "--token-ids", "105,110,116",
                                  "--max-new-tokens", 5, "--json").stdout)["token_ids"]
               for folder in (run, target)]
        self.assertEqual(ids[0], ids[1])


def add_tests():
    found = sorted((SOURCE / "examples").glob("*.yaml"))
    if {example.stem for example in found} != set(EXPORTS):
        raise SystemExit(f"examples {[e.name for e in found]}: EXPORTS here lists others")
    for example in found:
        setattr(Examples, f"test_{example.stem}", lambda self, e=example: self.check(e))


if __name__ == "__main__":
    PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    add_tests()
    unittest.main(argv=sys.argv[:1])
