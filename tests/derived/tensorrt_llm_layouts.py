#!/usr/bin/env python3
"""tensorrt_llm_layouts.py WRITER_DIRECTORY > tests/data/tensorrt_llm/layouts.json

What a plain writer of TensorRT-LLM checkpoints that shares no code with Slipway (make_trtllm_reference.py, of the
conformance suite, in WRITER_DIRECTORY) makes of small models: names, shapes and a sum over the elements of every rank's
tensors. The models' elements are numbered: over the tensors in the order of their names, each in row-major order,
from 0. The sum of a tensor is that of (i + 1) * element i, modulo 2^64. Needs numpy."""
import json
import os
import sys
import tempfile

import numpy as np

sys.path.insert(0, sys.argv[1])
import make_trtllm_reference as writer  # noqa: E402

HIDDEN, HEADS, KV, SIZE, FFN, VOCABULARY = 32, 4, 2, 8, 48, 37
COMMON = dict(hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=KV,
              intermediate_size=FFN, vocab_size=VOCABULARY, max_position_embeddings=64, head_dim=SIZE,
              rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False)


def norms(names, bias=False):
    return {f"{name}.{kind}": [HIDDEN] for name in names for kind in (["weight", "bias"] if bias else ["weight"])}


def linear(name, rows, columns, bias=False):
    return {f"{name}.weight": [rows, columns], **({f"{name}.bias": [rows]} if bias else {})}


def attention(qkv_bias=False, output_bias=False, size=SIZE, kv=KV):
    return {**linear("self_attn.q_proj", HEADS * size, HIDDEN, qkv_bias), **linear("self_attn.k_proj", kv * size, HIDDEN, qkv_bias),
            **linear("self_attn.v_proj", kv * size, HIDDEN, qkv_bias), **linear("self_attn.o_proj", HIDDEN, HEADS * size, output_bias)}


def gated(prefix="mlp.", names=("gate_proj", "up_proj", "down_proj"), ffn=FFN, bias=False):
    return {**linear(prefix + names[0], ffn, HIDDEN, bias), **linear(prefix + names[1], ffn, HIDDEN, bias),
            **linear(prefix + names[2], HIDDEN, ffn, bias)}


def experts(prefix, names, ffn=24):
    result = {f"{prefix}gate.weight": [4, HIDDEN]}
    for expert in range(4):
        result |= gated(f"{prefix}experts.{expert}.", names, ffn)
    return result


def model(layer, prefix="model.", layers="layers", embedding="embed_tokens", norm="norm", norm_bias=False, head=True, more=None):
    result = {f"{prefix}{embedding}.weight": [VOCABULARY, HIDDEN], **(more or {})}
    for index in range(2):
        result |= {f"{prefix}{layers}.{index}.{name}": shape for name, shape in layer.items()}
    result |= {f"{prefix}{name}": shape for name, shape in norms([norm], norm_bias).items()}
    return result | ({"lm_head.weight": [VOCABULARY, HIDDEN]} if head else {})


TWO = ["input_layernorm", "post_attention_layernorm"]
FOUR = TWO + ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
HEAD_NORMS = {"self_attn.q_norm.weight": [SIZE], "self_attn.k_norm.weight": [SIZE]}
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)
DENSE = [(1, 1, 1), (2, 2, 1), (4, 1, 1)]
EXPERTS = [(2, 1, 1), (4, 1, 2), (2, 2, 2)]
GPT = dict(hidden_act="gelu", tie_word_embeddings=True)

CASES = {
    "llama": ("LlamaForCausalLM", {}, model(norms(TWO) | attention() | gated()), DENSE),
    "llama_bias": ("LlamaForCausalLM", {}, model(norms(TWO) | attention(True, True) | gated(bias=True)), [(2, 1, 1)]),
    "mistral": ("MistralForCausalLM", {}, model(norms(TWO) | attention() | gated()), [(2, 1, 1)]),
    "mixtral": ("MixtralForCausalLM", dict(num_local_experts=4, num_experts_per_tok=2),
                model(norms(TWO) | attention() | experts("block_sparse_moe.", ("w1", "w3", "w2"), FFN)), EXPERTS),
    "qwen2": ("Qwen2ForCausalLM", dict(tie_word_embeddings=True), model(norms(TWO) | attention(True) | gated(), head=False), DENSE),
    "qwen2_moe": ("Qwen2MoeForCausalLM", dict(MOE, shared_expert_intermediate_size=16),
                  model(norms(TWO) | attention(True) | experts("mlp.", ("gate_proj", "up_proj", "down_proj"))
                        | gated("mlp.shared_expert.", ffn=16) | {"mlp.shared_expert_gate.weight": [1, HIDDEN]}), EXPERTS),
    "qwen3": ("Qwen3ForCausalLM", {}, model(norms(TWO) | attention() | HEAD_NORMS | gated()), DENSE),
    "qwen3_moe": ("Qwen3MoeForCausalLM", MOE, model(norms(TWO) | attention() | HEAD_NORMS
                                                    | experts("mlp.", ("gate_proj", "up_proj", "down_proj"))), EXPERTS),
    "gemma": ("GemmaForCausalLM", dict(tie_word_embeddings=True, hidden_act="gelu_pytorch_tanh", head_dim=12),
              model(norms(TWO) | attention(size=12) | gated(), head=False), DENSE),
    "gemma2": ("Gemma2ForCausalLM", dict(tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=8,
                                         final_logit_softcapping=30.0, attn_logit_softcapping=50.0),
               model(norms(FOUR) | attention() | gated(), head=False), [(2, 2, 1)]),
    "gemma3_text": ("Gemma3ForCausalLM", dict(tie_word_embeddings=True, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=8,
                                              final_logit_softcapping=None),
                    model(norms(FOUR) | attention() | HEAD_NORMS | gated(), head=False), [(2, 2, 1)]),
    "nemotron": ("NemotronForCausalLM", dict(hidden_act="relu2", norm_eps=1e-5),
                 model(norms(TWO, True) | attention() | linear("mlp.up_proj", FFN, HIDDEN) | linear("mlp.down_proj", HIDDEN, FFN),
                       norm_bias=True), DENSE),
    "starcoder2": ("Starcoder2ForCausalLM", GPT,
                   model(norms(TWO, True) | attention(True, True) | linear("mlp.c_fc", FFN, HIDDEN, True)
                         | linear("mlp.c_proj", HIDDEN, FFN, True), norm_bias=True, head=False), DENSE),
    "gpt2": ("GPT2LMHeadModel", dict(n_embd=HIDDEN, n_layer=2, n_head=HEADS, n_inner=FFN, n_positions=64, layer_norm_epsilon=1e-5,
                                     activation_function="gelu_new", tie_word_embeddings=True),
             model(norms(["ln_1", "ln_2"], True)
                   | {"attn.c_attn.weight": [HIDDEN, 3 * HIDDEN], "attn.c_attn.bias": [3 * HIDDEN], "attn.c_proj.weight": [HIDDEN, HIDDEN],
                      "attn.c_proj.bias": [HIDDEN], "mlp.c_fc.weight": [HIDDEN, FFN], "mlp.c_fc.bias": [FFN],
                      "mlp.c_proj.weight": [FFN, HIDDEN], "mlp.c_proj.bias": [HIDDEN]},
                   "transformer.", "h", "wte", "ln_f", True, False, {"transformer.wpe.weight": [64, HIDDEN]}), DENSE),
    "falcon": ("FalconForCausalLM", dict(new_decoder_architecture=True, num_kv_heads=KV, ffn_hidden_size=FFN, layer_norm_epsilon=1e-5,
                                         activation="gelu", alibi=False, bias=False, parallel_attn=True, tie_word_embeddings=True),
               model(norms(["ln_attn", "ln_mlp"], True) | linear("self_attention.query_key_value", 8 * SIZE, HIDDEN)
                     | linear("self_attention.dense", HIDDEN, HIDDEN) | linear("mlp.dense_h_to_4h", FFN, HIDDEN)
                     | linear("mlp.dense_4h_to_h", HIDDEN, FFN), "transformer.", "h", "word_embeddings", "ln_f", True, False), DENSE),
    "falcon_7b": ("FalconForCausalLM", dict(new_decoder_architecture=False, multi_query=True, num_kv_heads=HEADS, ffn_hidden_size=FFN,
                                            layer_norm_epsilon=1e-5, activation="gelu", alibi=False, bias=False, parallel_attn=True,
                                            tie_word_embeddings=True),
                  model(norms(["input_layernorm"], True) | linear("self_attention.query_key_value", 6 * SIZE, HIDDEN)
                        | linear("self_attention.dense", HIDDEN, HIDDEN) | linear("mlp.dense_h_to_4h", FFN, HIDDEN)
                        | linear("mlp.dense_4h_to_h", HIDDEN, FFN), "transformer.", "h", "word_embeddings", "ln_f", True, False), DENSE),
    # The writer does not know these two: it is given the same elements as another family's.
    "phi3": ("Phi3ForCausalLM", {}, model(norms(TWO) | linear("self_attn.qkv_proj", 8 * SIZE, HIDDEN)
                                          | linear("self_attn.o_proj", HIDDEN, HIDDEN) | linear("mlp.gate_up_proj", 2 * FFN, HIDDEN)
                                          | linear("mlp.down_proj", HIDDEN, FFN)), [(1, 1, 1), (2, 1, 1), (4, 1, 1)]),
    "gpt_neox": ("GPTNeoXForCausalLM", dict(GPT, tie_word_embeddings=False, use_parallel_residual=False, layer_norm_eps=1e-5,
                                            rotary_pct=0.25),
                 {k.replace("lm_head", "embed_out"): v for k, v in
                  model(norms(TWO, True) | linear("attention.query_key_value", 3 * HIDDEN, HIDDEN, True)
                        | linear("attention.dense", HIDDEN, HIDDEN, True) | linear("mlp.dense_h_to_4h", FFN, HIDDEN, True)
                        | linear("mlp.dense_4h_to_h", HIDDEN, FFN, True), "gpt_neox.", "layers", "embed_in", "final_layer_norm",
                        True).items()}, DENSE),
}


def as_llama(tensors):
    result = {}
    for name, value in tensors.items():
        if "qkv_proj" in name:
            for letter, part in zip("qkv", np.split(value, [HEADS * SIZE, (HEADS + KV) * SIZE])):
                result[name.replace("qkv_proj", f"{letter}_proj")] = part
        elif "gate_up_proj" in name:
            result[name.replace("gate_up_proj", "gate_proj")], result[name.replace("gate_up_proj", "up_proj")] = value[:FFN], value[FFN:]
        else:
            result[name] = value
    return result


def as_starcoder2(tensors):
    result = {}
    for name, value in tensors.items():
        for old, new in (("gpt_neox.", "model."), ("embed_in", "embed_tokens"), ("final_layer_norm", "norm"), ("embed_out", "lm_head"),
                         ("attention.dense.", "self_attn.o_proj."), ("dense_h_to_4h", "c_fc"), ("dense_4h_to_h", "c_proj")):
            name = name.replace(old, new)
        if "query_key_value" in name:
            heads = value.reshape((HEADS, 3, SIZE) + value.shape[1:])
            for index, letter in enumerate("qkv"):
                result[name.replace("attention.query_key_value", f"self_attn.{letter}_proj")] = heads[:, index].reshape(
                    (HEADS * SIZE,) + value.shape[1:])
        else:
            result[name] = value
    return result


def join_gate(tensors):
    for name in [name for name in tensors if name.endswith("mlp.gate.weight")]:
        fc = name.replace("gate", "fc")
        tensors[fc] = (tensors[fc][0], np.concatenate([tensors.pop(name)[1], tensors[fc][1]]))


def numbered(shapes):
    result, first = {}, 0
    for name in sorted(shapes):
        count = int(np.prod(shapes[name]))
        result[name] = np.arange(first, first + count, dtype=np.float32).reshape(shapes[name])
        first += count
    return result


def described(values):
    flat = values.view(np.float32).astype(np.uint64).reshape(-1)
    return [list(values.shape), int((flat * np.arange(1, len(flat) + 1, dtype=np.uint64)).sum(dtype=np.uint64))]


def layouts(kind, config, tensors, parallel, scratch):
    kind = {"llama_bias": "llama", "falcon_7b": "falcon"}.get(kind, kind)
    tensors = {"phi3": as_llama, "gpt_neox": as_starcoder2}.get(kind, lambda same: same)(tensors)
    other = {"phi3": "llama", "gpt_neox": "starcoder2"}.get(kind, kind)
    given = dict(config, model_type=other)
    if kind == "gpt_neox":
        given |= dict(num_key_value_heads=HEADS, norm_epsilon=1e-5)
    json.dump(given, open(os.path.join(scratch, "config.json"), "w"))
    writer.save(os.path.join(scratch, "model.safetensors"), {name: ("F32", value) for name, value in tensors.items()})
    result = []
    for tensor, pipeline, expert in parallel:
        ranks = {}
        written = writer.save
        writer.save = lambda path, content: ranks.__setitem__(os.path.basename(path), content)
        out = os.path.join(scratch, "out")
        writer.build(scratch, out, tensor, pipeline, expert)
        writer.save = written
        for content in ranks.values():
            if kind == "phi3":
                join_gate(content)
        result.append(dict(tensor=tensor, pipeline=pipeline, expert=expert, ranks={
            file: {name: described(value) for name, (_, value) in content.items()} for file, content in ranks.items()}))
    return result


def main():
    cases = {}
    for kind, (architecture, own, shapes, parallel) in CASES.items():
        config = (own if kind == "gpt2" else dict(COMMON, **own)) | dict(architectures=[architecture], vocab_size=VOCABULARY)
        if kind in ("gpt_neox", "falcon", "falcon_7b"):
            config = {name: value for name, value in config.items() if name not in ("num_key_value_heads", "rms_norm_eps", "head_dim")}
        if kind in ("nemotron", "starcoder2"):
            config = {name: value for name, value in config.items() if name != "rms_norm_eps"} | (
                dict(norm_epsilon=1e-5) if kind == "starcoder2" else {})
        with tempfile.TemporaryDirectory() as scratch:
            made = layouts(kind, config, numbered(shapes), parallel, scratch)
        transposed = [name for name in shapes if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))]
        cases[kind] = dict(config=config, tensors=shapes, transposed=transposed, layouts=made)
    lines = ",\n".join(f" {json.dumps(kind)}: {json.dumps(case, separators=(',', ':'))}" for kind, case in cases.items())
    print("{\n" + lines + "\n}")


if __name__ == "__main__":
    main()
