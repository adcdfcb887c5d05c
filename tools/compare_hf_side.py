#!/usr/bin/env python3
"""The transformers side of compare_hf.py, run by an interpreter that has torch and transformers.

  compare_hf_side.py make   FOLDER SEED             random weights for FOLDER/config.json
  compare_hf_side.py logits FOLDER TOKENS LENGTH OURS   differences to what `headway eval` wrote
  compare_hf_side.py step   FOLDER TOKENS LR        one training step for every line on stdin
  compare_hf_side.py decode FOLDER TOKENS COUNT     one greedy continuation for every line on stdin

Answers are JSON lines on stdout. Environment: COMPARE_THREADS, COMPARE_DTYPE.
Not for use by hand, and not a place for anything Headway computes.
"""

import json
import os
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}
DTYPE = getattr(torch, os.environ.get("COMPARE_DTYPE", "float32"))
ATTENTION = "sdpa"


def answer(**values):
    print(json.dumps(values), flush=True)


class CausalLM:
    """A family that transformers has as a causal language model."""

    def __init__(self, folder):
        self.module = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE,
                                                           attn_implementation=ATTENTION)

    def loss(self, ids):
        return self.module(input_ids=ids, labels=ids, use_cache=False).loss

    def logits(self, ids, cache=None, last_only=False):
        return self.module(input_ids=ids, past_key_values=cache, use_cache=cache is not None,
                           logits_to_keep=1 if last_only else 0).logits

    def new_cache(self):
        return DynamicCache(config=self.module.config)

    def generate(self, ids, count, streamer):
        self.module.generation_config.eos_token_id = None
        self.module.generation_config.pad_token_id = None
        self.module.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                             max_new_tokens=count, streamer=streamer)


class TextModelWithHead(torch.nn.Module):
    """Step-3.5: transformers has the text model without a head, so the head stands here."""

    def __init__(self, folder):
        super().__init__()
        config = AutoConfig.from_pretrained(folder)
        config._attn_implementation = ATTENTION
        self.model = transformers.Step3p7TextModel(config)
        self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        if config.pad_token_id < 0:  # no padding: every row learns
            self.model.embed_tokens.padding_idx = None
        tensors = {}
        for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
            tensors.update(load_file(file))
        if config.tie_word_embeddings:
            tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
        self.load_state_dict(tensors, strict=True)
        self.to(DTYPE)

    @property
    def module(self):
        return self

    def forward(self, ids, cache=None, last_only=False):
        hidden = self.model(input_ids=ids, past_key_values=cache,
                            use_cache=cache is not None).last_hidden_state
        return self.lm_head(hidden[:, -1:] if last_only else hidden)

    def loss(self, ids):
        logits = self(ids)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    def logits(self, ids, cache=None, last_only=False):
        return self(ids, cache, last_only)

    def new_cache(self):
        return DynamicCache(config=self.model.config)


def load(folder):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    model = (TextModelWithHead if config["model_type"] == "step3p5" else CausalLM)(folder)
    model.module.train(False)
    return model


def make(folder, seed):
    torch.manual_seed(int(seed))
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    answer(done=True)


@torch.inference_mode()
def compare_logits(folder, tokens, length, ours):
    """`ours` holds logits of the first `length` positions; the loss is over all."""
    model = load(folder)
    ids = load_file(tokens)["input_ids"]
    logits = model.logits(ids[:, :int(length)]).float()
    difference = (load_file(ours)["logits"].float() - logits).abs()
    answer(loss=model.loss(ids).item(), max_difference=difference.max().item(),
           mean_difference=difference.mean().item(), logits_std=logits.std().item(),
           compared=list(logits.shape), **VERSIONS)


def serve(one_round):
    answer(ready=True, threads=torch.get_num_threads(), **VERSIONS)
    for _ in sys.stdin:
        answer(**one_round())


def serve_step(folder, tokens, lr):
    model = load(folder)
    model.module.train(True)
    ids = load_file(tokens)["input_ids"]
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=float(lr), betas=(0.9, 0.95),
                                  eps=1e-8, weight_decay=0.0, fused=True)

    def one_round():
        start = time.perf_counter()
        loss = model.loss(ids)
        loss.backward()
        value = loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.perf_counter() - start, "loss": value, "tokens": ids.numel()}

    serve(one_round)


class TokenClock:
    """A streamer for generate(): the prompt comes first, then one call for every new token."""

    def __init__(self):
        self.times = []

    def put(self, _):
        self.times.append(time.perf_counter())

    def end(self):
        pass


@torch.inference_mode()
def greedy(model, prompt, count):
    """The bare loop: forward, argmax. Seconds from the first new token to the last."""
    cache = model.new_cache()
    token = model.logits(prompt, cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
    ids = [token.item()]
    start = time.perf_counter()
    for _ in range(count - 1):
        token = model.logits(token, cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
        ids.append(token.item())
    return time.perf_counter() - start, ids


def serve_decode(folder, tokens, count):
    model = load(folder)
    prompt = load_file(tokens)["input_ids"][:1]
    count = int(count)

    def one_round():
        seconds, ids = greedy(model, prompt, count)
        result = {"seconds": seconds, "tokens": count - 1, "token_ids": ids}
        if hasattr(model, "generate"):
            clock = TokenClock()
            model.generate(prompt, count, clock)
            result["generate_seconds"] = clock.times[-1] - clock.times[1]
        return result

    serve(one_round)


def main():
    torch.set_num_threads(int(os.environ.get("COMPARE_THREADS", "2")))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    commands = {"make": make, "logits": compare_logits, "step": serve_step,
                "decode": serve_decode}
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
