"""Gemma 1 and 2, OLMoE, Phi-3, Falcon, GPT-NeoX."""
import torch
from transformers import (FalconConfig, FalconForCausalLM, Gemma2Config, Gemma2ForCausalLM, GemmaConfig,
                          GemmaForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, OlmoeConfig, OlmoeForCausalLM,
                          Phi3Config, Phi3ForCausalLM)

from .layers import finish, join_qkv, move, move_attention, move_experts, move_gated_mlp

SIZES = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, dtype="bfloat16")


def sizes(config, kv_heads, head, **more):
    return dict(num_layers=config.num_hidden_layers, hidden_size=config.hidden_size,
                num_attention_heads=config.num_attention_heads, group_query_attention=True, num_query_groups=kv_heads,
                kv_channels=head, vocab_size=config.vocab_size,
                max_position_embeddings=config.max_position_embeddings, rotary_base=10000, **more)


def ends(state, out, embedding="model.embed_tokens.weight", norm="model.norm.", head="lm_head.weight"):
    out["embedding.word_embeddings.weight"] = state.pop(embedding)
    for kind in ("weight", "bias"):
        if norm + kind in state:
            out[f"decoder.final_layernorm.{kind}"] = state.pop(norm + kind)
    if head in state:
        out["output_layer.weight"] = state.pop(head)


def gemma_to_megatron(state, config):
    out = {}
    ends(state, out)
    second = config.model_type == "gemma2"
    for i in range(config.num_hidden_layers):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        move_attention(state, out, source, target, config.num_key_value_heads)
        move_gated_mlp(state, out, f"{source}mlp.", f"{target}mlp.")
        names = {"input_layernorm": "self_attention.linear_qkv.layer_norm_weight"}
        if second:
            names |= {"post_attention_layernorm": "self_attention.linear_proj.post_layernorm.weight",
                      "pre_feedforward_layernorm": "mlp.linear_fc1.layer_norm_weight",
                      "post_feedforward_layernorm": "mlp.linear_fc2.post_layernorm.weight"}
        else:
            names["post_attention_layernorm"] = "mlp.linear_fc1.layer_norm_weight"
        move(state, out, {f"{source}{hf}.weight": f"{target}{megatron}" for hf, megatron in names.items()})
    return finish(state, out)


def gemma_arguments(config):
    return sizes(config, config.num_key_value_heads, config.head_dim, ffn_hidden_size=config.intermediate_size,
                 norm_epsilon=1e-5, apply_layernorm_1p=True, untie_embeddings_and_output_weights=False)


def olmoe_to_megatron(state, config):
    out = {}
    ends(state, out)
    for i in range(config.num_hidden_layers):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        move_attention(state, out, source, target, config.num_key_value_heads)
        move(state, out, {f"{source}self_attn.q_norm.weight": f"{target}self_attention.q_layernorm.weight",
                          f"{source}self_attn.k_norm.weight": f"{target}self_attention.k_layernorm.weight",
                          f"{source}input_layernorm.weight": f"{target}self_attention.linear_qkv.layer_norm_weight",
                          f"{source}post_attention_layernorm.weight": f"{target}pre_mlp_layernorm.weight",
                          f"{source}mlp.gate.weight": f"{target}mlp.router.weight"})
        move_experts(state, out, f"{source}mlp.experts.", f"{target}mlp.experts.experts.", config.num_experts)
    return finish(state, out)


def olmoe_arguments(config):
    return sizes(config, config.num_key_value_heads, 8, ffn_hidden_size=config.intermediate_size, norm_epsilon=1e-5,
                 qk_layernorm=True, num_experts=config.num_experts, moe_layer_freq=1, moe_router_topk=2,
                 moe_ffn_hidden_size=config.intermediate_size, moe_router_pre_softmax=True)


def phi3_to_megatron(state, config):
    out = {}
    ends(state, out)
    queries, keys = 4 * 8, config.num_key_value_heads * 8
    for i in range(config.num_hidden_layers):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        q, k, v = state.pop(f"{source}self_attn.qkv_proj.weight").split([queries, keys, keys])
        out[f"{target}self_attention.linear_qkv.weight"] = join_qkv(q, k, v, config.num_key_value_heads)
        move(state, out, {f"{source}self_attn.o_proj.weight": f"{target}self_attention.linear_proj.weight",
                          f"{source}mlp.gate_up_proj.weight": f"{target}mlp.linear_fc1.weight",
                          f"{source}mlp.down_proj.weight": f"{target}mlp.linear_fc2.weight",
                          f"{source}input_layernorm.weight": f"{target}input_layernorm.weight",
                          f"{source}post_attention_layernorm.weight": f"{target}pre_mlp_layernorm.weight"})
    return finish(state, out)


def phi3_arguments(config):
    return sizes(config, config.num_key_value_heads, 8, ffn_hidden_size=config.intermediate_size, norm_epsilon=1e-5)


def falcon_to_megatron(state, config):
    out = {}
    ends(state, out, "transformer.word_embeddings.weight", "transformer.ln_f.")
    two_norms = config.new_decoder_architecture
    for i in range(config.num_hidden_layers):
        source, target = f"transformer.h.{i}.", f"decoder.layers.{i}."
        names = {"self_attention.query_key_value.weight": "self_attention.linear_qkv.weight",
                 "self_attention.dense.weight": "self_attention.linear_proj.weight",
                 "mlp.dense_h_to_4h.weight": "mlp.linear_fc1.weight",
                 "mlp.dense_4h_to_h.weight": "mlp.linear_fc2.weight"}
        for kind in ("weight", "bias"):
            names[f"{'ln_attn' if two_norms else 'input_layernorm'}.{kind}"] = f"input_layernorm.{kind}"
            if two_norms:
                names[f"ln_mlp.{kind}"] = f"pre_mlp_layernorm.{kind}"
        move(state, out, {source + hf: target + megatron for hf, megatron in names.items()})
    return finish(state, out)


def falcon_arguments(config):
    return sizes(config, config.num_kv_heads if config.new_decoder_architecture else 1, 8,
                 ffn_hidden_size=config.ffn_hidden_size, norm_epsilon=1e-5, normalization="LayerNorm", swiglu=False,
                 untie_embeddings_and_output_weights=not config.tie_word_embeddings)


def neox_to_megatron(state, config):
    out = {}
    ends(state, out, "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.", "embed_out.weight")
    if "lm_head.weight" in state:
        out["output_layer.weight"] = state.pop("lm_head.weight")
    for i in range(config.num_hidden_layers):
        source, target = f"gpt_neox.layers.{i}.", f"decoder.layers.{i}."
        for kind in ("weight", "bias"):
            move(state, out, {
                f"{source}attention.query_key_value.{kind}": f"{target}self_attention.linear_qkv.{kind}",
                f"{source}attention.dense.{kind}": f"{target}self_attention.linear_proj.{kind}",
                f"{source}mlp.dense_h_to_4h.{kind}": f"{target}mlp.linear_fc1.{kind}",
                f"{source}mlp.dense_4h_to_h.{kind}": f"{target}mlp.linear_fc2.{kind}",
                f"{source}input_layernorm.{kind}": f"{target}input_layernorm.{kind}",
                f"{source}post_attention_layernorm.{kind}": f"{target}pre_mlp_layernorm.{kind}"})
    return finish(state, out)


def neox_arguments(config):
    return sizes(config, 4, 8, ffn_hidden_size=config.intermediate_size, norm_epsilon=1e-5, normalization="LayerNorm",
                 swiglu=False, add_bias_linear=True, rotary_percent=0.25)


def family(config, model, to_megatron, arguments):
    return {"config": config, "model": model, "to_megatron": to_megatron, "arguments": arguments}


FAMILIES = {
    "gemma": family(lambda: GemmaConfig(**SIZES, intermediate_size=64, num_key_value_heads=1, head_dim=8,
                                        hidden_activation="gelu_pytorch_tanh"),
                    GemmaForCausalLM, gemma_to_megatron, gemma_arguments),
    "gemma2": family(lambda: Gemma2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8,
                                          sliding_window=16, query_pre_attn_scalar=8),
                     Gemma2ForCausalLM, gemma_to_megatron, gemma_arguments),
    "olmoe": family(lambda: OlmoeConfig(**SIZES, intermediate_size=24, num_key_value_heads=2, num_experts=4,
                                        num_experts_per_tok=2),
                    OlmoeForCausalLM, olmoe_to_megatron, olmoe_arguments),
    "phi3": family(lambda: Phi3Config(**SIZES, intermediate_size=64, num_key_value_heads=2,
                                      original_max_position_embeddings=256),
                   Phi3ForCausalLM, phi3_to_megatron, phi3_arguments),
    "falcon": family(lambda: FalconConfig(**SIZES, num_kv_heads=2, new_decoder_architecture=True, ffn_hidden_size=64),
                     FalconForCausalLM, falcon_to_megatron, falcon_arguments),
    "falcon_7b": family(lambda: FalconConfig(**SIZES, new_decoder_architecture=False, multi_query=True,
                                             parallel_attn=True, ffn_hidden_size=64),
                        FalconForCausalLM, falcon_to_megatron, falcon_arguments),
    "gpt_neox": family(lambda: GPTNeoXConfig(**SIZES, intermediate_size=64, rotary_pct=0.25,
                                             use_parallel_residual=False),
                       GPTNeoXForCausalLM, neox_to_megatron, neox_arguments),
}
