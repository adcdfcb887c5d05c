"""The built-in models of compare_hf.py: the shapes for which Headway states speeds.

Not for models of one's own: those are folders, given by --model.
"""

LLAMA_TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}

# Qwen3 is the plainest published family in which some layers see a window and others everything.
# Every fourth layer is full; q/k norms come with the family and run on both sides.
WINDOW = {
    **LLAMA_TINY,
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "use_sliding_window": True,
    "sliding_window": 256,
    "max_window_layers": 8,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
}

# Qwen3-MoE with 16 experts of which a token takes 4, in every layer.
QWEN3_MOE = {
    **{key: value for key, value in LLAMA_TINY.items() if key != "intermediate_size"},
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "use_sliding_window": False,
}

# A per-layer embedding of 32 channels; the last three layers read keys and values of earlier ones.
GEMMA4_TINY = {
    **{key: value for key, value in LLAMA_TINY.items() if key not in ("hidden_act", "rope_theta")},
    "model_type": "gemma4_text",
    "architectures": ["Gemma4ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
    "global_head_dim": 32,
    "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": 8192,
    "num_kv_shared_layers": 3,
    "sliding_window": 256,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": True,
}

# name -> config.json, tokens of a training step as [batch, length], what is measured by default.
SHAPES = {
    "llama-tiny": (LLAMA_TINY, (2, 512), ("logits", "step")),
    "window": (WINDOW, (1, 4096), ("logits", "step")),
    "big-vocab": ({**LLAMA_TINY, "vocab_size": 262144}, (1, 1024), ("logits", "step")),
    "decode": (LLAMA_TINY, (1, 512), ("logits", "decode")),
    "gemma4-tiny": (GEMMA4_TINY, (1, 4096), ("logits", "step", "decode")),
    "qwen3-moe": (QWEN3_MOE, (2, 512), ("logits", "step", "decode")),
}
