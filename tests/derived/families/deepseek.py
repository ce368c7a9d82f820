"""DeepSeek-V2, DeepSeek-V3 (Moonlight), GLM-4.5, GLM-4.7-Flash, GLM-5, with layers that predict further tokens."""
import functools

import torch
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM,
                          Glm4MoeConfig, Glm4MoeForCausalLM, Glm4MoeLiteConfig, Glm4MoeLiteForCausalLM,
                          GlmMoeDsaConfig, GlmMoeDsaForCausalLM)

from .layers import finish, move, move_attention, move_experts, move_gated_mlp

EXPERT_BIAS = "mlp.gate.e_score_correction_bias"
SIZES = dict(vocab_size=90, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=256, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2, dtype="bfloat16",
             n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1)
LATENT = dict(SIZES, num_key_value_heads=4, kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=8)
SIGMOID = dict(scoring_func="sigmoid", topk_method="noaux_tc", norm_topk_prob=True)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=32.0, beta_slow=1.0, mscale=0.7,
            mscale_all_dim=0.7, original_max_position_embeddings=64)


def is_latent(config):
    return hasattr(config, "kv_lora_rank")


def add_prediction_layer(tensors, config):
    """One more layer with experts, with what a prediction layer has around it."""
    generator = torch.Generator().manual_seed(9)
    hidden, last = config.hidden_size, f"model.layers.{config.num_hidden_layers - 1}."
    added = f"model.layers.{config.num_hidden_layers}."
    for name in [name for name in tensors if name.startswith(last)]:
        tensors[added + name.removeprefix(last)] = tensors[name].flip(0).contiguous()
    for name, shape in {"enorm": (hidden,), "hnorm": (hidden,), "eh_proj": (hidden, 2 * hidden),
                        "shared_head.norm": (hidden,)}.items():
        tensors[f"{added}{name}.weight"] = torch.randn(shape, generator=generator).mul_(0.05).to(torch.bfloat16)


def move_latent_attention(state, out, source, target, config):
    names = {"kv_a_proj_with_mqa": "linear_kv_down_proj.weight", "kv_b_proj": "linear_kv_up_proj.weight",
             "kv_a_layernorm": "linear_kv_up_proj.layer_norm_weight", "o_proj": "linear_proj.weight"}
    if config.q_lora_rank is None:
        names["q_proj"] = "linear_q_proj.weight"
    else:
        names |= {"q_a_proj": "linear_q_down_proj.weight", "q_b_proj": "linear_q_up_proj.weight",
                  "q_a_layernorm": "linear_q_up_proj.layer_norm_weight"}
    if hasattr(config, "index_topk"):
        # Norms cannot be fused there: the indexer wants what they return.
        names |= {"kv_a_layernorm": "kv_layernorm.weight", "q_a_layernorm": "q_layernorm.weight",
                  "indexer.wq_b": "core_attention.indexer.linear_wq_b.weight",
                  "indexer.wk": "core_attention.indexer.linear_wk.weight",
                  "indexer.k_norm": "core_attention.indexer.k_norm.weight",
                  "indexer.weights_proj": "core_attention.indexer.linear_weights_proj.weight"}
        out[f"{target}self_attention.core_attention.indexer.k_norm.bias"] = state.pop(
            f"{source}self_attn.indexer.k_norm.bias")
    move(state, out, {f"{source}self_attn.{hf}.weight": f"{target}self_attention.{megatron}"
                      for hf, megatron in names.items()})


def move_layer(state, out, source, target, config):
    if is_latent(config):
        move_latent_attention(state, out, source, target, config)
        out[f"{target}input_layernorm.weight"] = state.pop(f"{source}input_layernorm.weight")
    else:
        move_attention(state, out, source, target, config.num_key_value_heads, biases=config.attention_bias)
        out[f"{target}self_attention.linear_qkv.layer_norm_weight"] = state.pop(f"{source}input_layernorm.weight")
        if config.use_qk_norm:
            move(state, out, {f"{source}self_attn.{x}_norm.weight": f"{target}self_attention.{x}_layernorm.weight"
                              for x in "qk"})
    norm = f"{source}post_attention_layernorm.weight"
    if f"{source}mlp.gate.weight" not in state:
        move(state, out, {norm: f"{target}mlp.linear_fc1.layer_norm_weight"})
        move_gated_mlp(state, out, f"{source}mlp.", f"{target}mlp.")
        return
    move(state, out, {norm: f"{target}pre_mlp_layernorm.weight",
                      f"{source}mlp.gate.weight": f"{target}mlp.router.weight"})
    if source + EXPERT_BIAS in state:
        out[f"{target}mlp.router.expert_bias"] = state.pop(source + EXPERT_BIAS)
    move_gated_mlp(state, out, f"{source}mlp.shared_experts.", f"{target}mlp.shared_experts.")
    experts = {}
    move_experts(state, experts, f"{source}mlp.experts.", "", config.n_routed_experts)
    for fc in ("linear_fc1.weight", "linear_fc2.weight"):  # as grouped matrix products store them
        out[f"{target}mlp.experts.experts.{fc}"] = torch.stack(
            [experts[f"{e}.{fc}"] for e in range(config.n_routed_experts)])


def to_megatron(state, config):
    out = {}
    move(state, out, {"model.embed_tokens.weight": "embedding.word_embeddings.weight",
                      "model.norm.weight": "decoder.final_layernorm.weight", "lm_head.weight": "output_layer.weight"})
    for i in range(config.num_hidden_layers):
        move_layer(state, out, f"model.layers.{i}.", f"decoder.layers.{i}.", config)
    source, target = f"model.layers.{config.num_hidden_layers}.", "mtp.layers.0."
    if f"{source}enorm.weight" in state:
        move(state, out, {f"{source}{name}.weight": f"{target}{name}.weight" for name in ("enorm", "hnorm", "eh_proj")})
        out[f"{target}final_layernorm.weight"] = state.pop(f"{source}shared_head.norm.weight")
        move_layer(state, out, source, f"{target}transformer_layer.", config)
    return finish(state, out)


def arguments(config):
    sigmoid = not isinstance(config, DeepseekV2Config)
    dense = config.first_k_dense_replace
    stated = dict(
        num_layers=config.num_hidden_layers, hidden_size=config.hidden_size, ffn_hidden_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads, vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings, norm_epsilon=config.rms_norm_eps,
        rotary_base=config.rope_parameters["rope_theta"], num_experts=config.n_routed_experts,
        moe_layer_freq=[0] * dense + [1] * (config.num_hidden_layers - dense),
        moe_router_topk=config.num_experts_per_tok, moe_ffn_hidden_size=config.moe_intermediate_size,
        moe_shared_expert_intermediate_size=config.n_shared_experts * config.moe_intermediate_size,
        moe_router_score_function="sigmoid" if sigmoid else "softmax", moe_router_pre_softmax=not sigmoid,
        moe_router_topk_scaling_factor=config.routed_scaling_factor,
        mtp_num_layers=getattr(config, "num_nextn_predict_layers", 0) or None)
    if (config.n_group or 1) > 1:
        stated |= dict(moe_router_num_groups=config.n_group, moe_router_group_topk=config.topk_group)
    if not is_latent(config):
        return stated | dict(group_query_attention=True, num_query_groups=config.num_key_value_heads,
                             kv_channels=config.head_dim, add_qkv_bias=config.attention_bias,
                             qk_layernorm=config.use_qk_norm,
                             rotary_percent=config.rope_parameters["partial_rotary_factor"])
    stated |= dict(multi_latent_attention=True, qk_layernorm=True, group_query_attention=False, num_query_groups=1,
                   kv_channels=config.hidden_size // config.num_attention_heads, q_lora_rank=config.q_lora_rank,
                   kv_lora_rank=config.kv_lora_rank, qk_head_dim=config.qk_nope_head_dim,
                   qk_pos_emb_head_dim=config.qk_rope_head_dim, v_head_dim=config.v_head_dim, rope_type="rope",
                   rotary_scaling_factor=1.0)
    if config.rope_parameters["rope_type"] == "yarn":
        stated |= dict(rope_type="yarn", rotary_scaling_factor=config.rope_parameters["factor"],
                       **{name: config.rope_parameters[name] for name in
                          ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "original_max_position_embeddings")})
    if hasattr(config, "index_topk"):
        stated |= dict(experimental_attention_variant="dsa", dsa_indexer_n_heads=config.index_n_heads,
                       dsa_indexer_head_dim=config.index_head_dim, dsa_indexer_topk=config.index_topk,
                       dsa_indexer_rope_interleaved=True)
    return stated


def family(config, model, **settings):
    predicts = settings.get("num_nextn_predict_layers", 0) > 0
    return {"config": functools.partial(config, **settings), "model": model, "to_megatron": to_megatron,
            "arguments": arguments, "float32": [EXPERT_BIAS],
            "golden": add_prediction_layer if predicts else lambda tensors, config: None}


FAMILIES = {
    "deepseek_v2": family(DeepseekV2Config, DeepseekV2ForCausalLM, **LATENT, q_lora_rank=14, n_shared_experts=2,
                          n_group=2, topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=16.0,
                          scoring_func="softmax", rope_parameters=YARN),
    "deepseek_v2_lite": family(DeepseekV2Config, DeepseekV2ForCausalLM, **LATENT, q_lora_rank=None, n_shared_experts=2,
                               n_group=1, topk_group=1, topk_method="greedy", scoring_func="softmax"),
    "deepseek_v3": family(DeepseekV3Config, DeepseekV3ForCausalLM, **LATENT, **SIGMOID, q_lora_rank=14, n_group=2,
                          topk_group=1, routed_scaling_factor=2.5, rope_parameters=YARN, num_nextn_predict_layers=1),
    "moonlight": family(DeepseekV3Config, DeepseekV3ForCausalLM, **LATENT, **SIGMOID, q_lora_rank=None, n_group=1,
                        topk_group=1, n_shared_experts=2, routed_scaling_factor=2.446, num_nextn_predict_layers=0,
                        rope_parameters=dict(rope_type="default", rope_theta=50000.0)),
    "glm4_moe": family(Glm4MoeConfig, Glm4MoeForCausalLM, **SIZES, num_key_value_heads=2, head_dim=12,
                       attention_bias=True, use_qk_norm=True, routed_scaling_factor=2.5, num_nextn_predict_layers=1,
                       rope_parameters=dict(rope_type="default", rope_theta=1e6, partial_rotary_factor=0.5)),
    "glm4_moe_lite": family(Glm4MoeLiteConfig, Glm4MoeLiteForCausalLM, **LATENT, **SIGMOID, q_lora_rank=14,
                            routed_scaling_factor=1.8, num_nextn_predict_layers=1,
                            rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "glm_moe_dsa": family(GlmMoeDsaConfig, GlmMoeDsaForCausalLM, **LATENT, **SIGMOID, q_lora_rank=14, head_dim=4,
                          index_topk=8, index_head_dim=6, index_n_heads=3, num_nextn_predict_layers=1,
                          indexer_rope_interleave=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
}
