"""Llama 4, text."""
from transformers import Llama4ForCausalLM, Llama4TextConfig

from .layers import finish, move, move_attention, move_gated_mlp


def config():
    return Llama4TextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=12, intermediate_size_mlp=28, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=2, no_rope_layer_interval=4, max_position_embeddings=512, attention_chunk_size=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, dtype="bfloat16")


def to_megatron(state, config):
    out = {}
    move(state, out, {"model.embed_tokens.weight": "embedding.word_embeddings.weight",
                      "model.norm.weight": "decoder.final_layernorm.weight",
                      "lm_head.weight": "output_layer.weight"})
    for i in range(config.num_hidden_layers):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        move_attention(state, out, source, target, config.num_key_value_heads)
        move(state, out, {f"{source}input_layernorm.weight": f"{target}self_attention.linear_qkv.layer_norm_weight",
                          f"{source}post_attention_layernorm.weight": f"{target}pre_mlp_layernorm.weight"})
        feed, mlp = f"{source}feed_forward.", f"{target}mlp."
        if i not in config.moe_layers:
            move_gated_mlp(state, out, feed, mlp)
            continue
        move(state, out, {f"{feed}router.weight": f"{mlp}router.weight"})
        move_gated_mlp(state, out, f"{feed}shared_expert.", f"{mlp}shared_experts.")
        gate_up, down = state.pop(f"{feed}experts.gate_up_proj"), state.pop(f"{feed}experts.down_proj")
        for e in range(config.num_local_experts):
            out[f"{mlp}experts.experts.{e}.linear_fc1.weight"] = gate_up[e].T.contiguous()
            out[f"{mlp}experts.experts.{e}.linear_fc2.weight"] = down[e].T.contiguous()
    return finish(state, out)


def arguments(config):
    layers = range(config.num_hidden_layers)
    return dict(
        num_layers=config.num_hidden_layers, hidden_size=config.hidden_size,
        ffn_hidden_size=config.intermediate_size_mlp, num_attention_heads=config.num_attention_heads,
        group_query_attention=True, num_query_groups=config.num_key_value_heads, kv_channels=config.head_dim,
        vocab_size=config.vocab_size, max_position_embeddings=config.max_position_embeddings,
        norm_epsilon=config.rms_norm_eps, rotary_base=500000, init_method_std=0.02,
        num_experts=config.num_local_experts, moe_layer_freq=[int(i in config.moe_layers) for i in layers],
        moe_router_topk=config.num_experts_per_tok, moe_ffn_hidden_size=config.intermediate_size,
        moe_shared_expert_intermediate_size=config.intermediate_size, moe_router_score_function="sigmoid",
        moe_apply_probs_on_input=True, rotary_interleaved=True, qk_l2_norm=True,
        no_rope_freq=[1 - has_rope for has_rope in config.no_rope_layers], moe_aux_loss_coeff=0.001)


FAMILIES = {"llama4": {"config": config, "model": Llama4ForCausalLM, "to_megatron": to_megatron,
                       "arguments": arguments}}
