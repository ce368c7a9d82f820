"""Qwen2-MoE."""
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from .layers import finish, move, move_attention, move_experts, move_gated_mlp


def config():
    return Qwen2MoeConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, moe_intermediate_size=48, num_hidden_layers=2,
        shared_expert_intermediate_size=96, num_experts=4, num_experts_per_tok=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-6, decoder_sparse_step=1,
        norm_topk_prob=True, rope_theta=1000000.0, bos_token_id=1, eos_token_id=2, dtype="bfloat16")


def to_megatron(state, config):
    out = {}
    move(state, out, {"model.embed_tokens.weight": "embedding.word_embeddings.weight",
                      "model.norm.weight": "decoder.final_layernorm.weight",
                      "lm_head.weight": "output_layer.weight"})
    for i in range(config.num_hidden_layers):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        move_attention(state, out, source, target, config.num_key_value_heads, biases=True)
        move(state, out, {f"{source}input_layernorm.weight": f"{target}input_layernorm.weight",
                          f"{source}post_attention_layernorm.weight": f"{target}pre_mlp_layernorm.weight",
                          f"{source}mlp.gate.weight": f"{target}mlp.router.weight",
                          f"{source}mlp.shared_expert_gate.weight": f"{target}mlp.shared_experts.gate_weight"})
        move_gated_mlp(state, out, f"{source}mlp.shared_expert.", f"{target}mlp.shared_experts.")
        move_experts(state, out, f"{source}mlp.experts.", f"{target}mlp.experts.experts.",
                     config.num_experts)
    return finish(state, out)


def arguments(config):
    return dict(
        num_layers=config.num_hidden_layers, hidden_size=config.hidden_size, ffn_hidden_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads, group_query_attention=True,
        num_query_groups=config.num_key_value_heads, kv_channels=16, vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings, norm_epsilon=config.rms_norm_eps,
        rotary_base=1000000, add_qkv_bias=True, num_experts=config.num_experts, moe_layer_freq=1,
        moe_router_topk=config.num_experts_per_tok, moe_ffn_hidden_size=config.moe_intermediate_size,
        moe_shared_expert_intermediate_size=config.shared_expert_intermediate_size, moe_shared_expert_gate=True)


FAMILIES = {"qwen2_moe": {"config": config, "model": Qwen2MoeForCausalLM, "to_megatron": to_megatron,
                          "arguments": arguments}}
