"""Qwen2.5-VL, Qwen3-VL and Qwen3-VL-MoE, as Megatron-Bridge's models name their parts."""
import torch
from transformers import (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3VLConfig,
                          Qwen3VLForConditionalGeneration, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration)

from .layers import finish, join_qkv, move, move_attention, move_gated_mlp

TEXT = dict(vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, dtype="bfloat16",
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [2, 1, 1]})
VISION = dict(depth=2, hidden_size=16, intermediate_size=20, num_heads=4, out_hidden_size=32, patch_size=4)
TOKENS = dict(image_token_id=90, video_token_id=91, vision_start_token_id=92, vision_end_token_id=93)


def qwen2_5_config():
    return Qwen2_5_VLConfig(text_config=TEXT, vision_config=dict(VISION, fullatt_block_indexes=[1]), dtype="bfloat16",
                            tie_word_embeddings=True, **TOKENS)


def qwen3_text(**more):
    return dict(TEXT, head_dim=8, **more)


def qwen3_vision():
    return dict(VISION, num_position_embeddings=16, deepstack_visual_indexes=[0, 1])


def qwen3_config():
    return Qwen3VLConfig(text_config=qwen3_text(), vision_config=qwen3_vision(), dtype="bfloat16",
                         tie_word_embeddings=False, **TOKENS)


def qwen3_moe_config():
    text = qwen3_text(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, decoder_sparse_step=1,
                      mlp_only_layers=[0])
    return Qwen3VLMoeConfig(text_config=text, vision_config=qwen3_vision(), dtype="bfloat16",
                            tie_word_embeddings=False, **TOKENS)


def published_experts(tensors, config):
    """The orientation in which the models are published, [experts, in, out]; transformers writes its module's."""
    for name in list(tensors):
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensors[name].transpose(1, 2).contiguous()


def text_to_megatron(state, out, prefix, config):
    text = config.text_config
    move(state, out, {f"{prefix}embed_tokens.weight": "language_model.embedding.word_embeddings.weight",
                      f"{prefix}norm.weight": "language_model.decoder.final_layernorm.weight"})
    if not config.tie_word_embeddings:
        out["language_model.output_layer.weight"] = state.pop("lm_head.weight")
    for i in range(text.num_hidden_layers):
        source, target = f"{prefix}layers.{i}.", f"language_model.decoder.layers.{i}."
        move_attention(state, out, source, target, text.num_key_value_heads,
                       biases=f"{source}self_attn.q_proj.bias" in state)
        out[f"{target}self_attention.linear_qkv.layer_norm_weight"] = state.pop(f"{source}input_layernorm.weight")
        norm = state.pop(f"{source}post_attention_layernorm.weight")
        for kind in "qk":
            if f"{source}self_attn.{kind}_norm.weight" in state:
                out[f"{target}self_attention.{kind}_layernorm.weight"] = state.pop(
                    f"{source}self_attn.{kind}_norm.weight")
        router = state.pop(f"{source}mlp.gate.weight", None)
        if router is None:
            out[f"{target}mlp.linear_fc1.layer_norm_weight"] = norm
            move_gated_mlp(state, out, f"{source}mlp.", f"{target}mlp.")
            continue
        out[f"{target}pre_mlp_layernorm.weight"] = norm
        out[f"{target}mlp.router.weight"] = router
        gate_up = state.pop(f"{source}mlp.experts.gate_up_proj")
        down = state.pop(f"{source}mlp.experts.down_proj")
        for e in range(text.num_experts):
            out[f"{target}mlp.experts.experts.{e}.linear_fc1.weight"] = gate_up[e].T
            out[f"{target}mlp.experts.experts.{e}.linear_fc2.weight"] = down[e].T


def stack_layers(out, prefix, layers):
    """The homogeneous form: what all layers below `prefix` have, along a new first axis."""
    for first in [name for name in out if name.startswith(f"{prefix}0.")]:
        tail = first.removeprefix(f"{prefix}0.")
        out[f"{prefix}{tail}"] = torch.stack([out.pop(f"{prefix}{i}.{tail}") for i in range(layers)])


def qwen2_5_to_megatron(state, config):
    out = {name: state.pop(name) for name in list(state) if name.startswith("visual.")}
    text_to_megatron(state, out, "model.", config)
    return finish(state, out)


def qwen3_tower_to_megatron(state, out, vision):
    source, target = "model.visual.", "vision_model."
    for name in ("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed.weight"):
        out[target + name] = state.pop(source + name)
    mergers = {f"{source}merger.": f"{target}merger."}
    for i in range(len(vision.deepstack_visual_indexes)):
        mergers[f"{source}deepstack_merger_list.{i}."] = f"{target}decoder.deepstack_merger_list.{i}."
    for kind in ("weight", "bias"):
        for hf, megatron in mergers.items():
            move(state, out, {f"{hf}norm.{kind}": f"{megatron}patch_norm.{kind}",
                              f"{hf}linear_fc1.{kind}": f"{megatron}linear_fc1.{kind}",
                              f"{hf}linear_fc2.{kind}": f"{megatron}linear_fc2.{kind}"})
        for i in range(vision.depth):
            hf, megatron = f"{source}blocks.{i}.", f"{target}decoder.layers.{i}."
            q, k, v = state.pop(f"{hf}attn.qkv.{kind}").chunk(3)
            out[f"{megatron}self_attention.linear_qkv.{kind}"] = join_qkv(q, k, v, vision.num_heads)
            move(state, out, {f"{hf}norm1.{kind}": f"{megatron}self_attention.linear_qkv.layer_norm_{kind}",
                              f"{hf}norm2.{kind}": f"{megatron}mlp.linear_fc1.layer_norm_{kind}",
                              f"{hf}attn.proj.{kind}": f"{megatron}self_attention.linear_proj.{kind}",
                              f"{hf}mlp.linear_fc1.{kind}": f"{megatron}mlp.linear_fc1.{kind}",
                              f"{hf}mlp.linear_fc2.{kind}": f"{megatron}mlp.linear_fc2.{kind}"})


def qwen3_to_megatron(state, config):
    out = {}
    text_to_megatron(state, out, "model.language_model.", config)
    qwen3_tower_to_megatron(state, out, config.vision_config)
    return finish(state, out)


def qwen3_stacked_to_megatron(state, config):
    out = qwen3_to_megatron(state, config)
    stack_layers(out, "language_model.decoder.layers.", config.text_config.num_hidden_layers)
    stack_layers(out, "vision_model.decoder.layers.", config.vision_config.depth)
    stack_layers(out, "vision_model.decoder.deepstack_merger_list.",
                 len(config.vision_config.deepstack_visual_indexes))
    return out


def arguments(config, **more):
    text = config.text_config
    return dict(
        num_layers=text.num_hidden_layers, hidden_size=text.hidden_size, ffn_hidden_size=text.intermediate_size,
        num_attention_heads=text.num_attention_heads, group_query_attention=True,
        num_query_groups=text.num_key_value_heads, kv_channels=8, vocab_size=text.vocab_size,
        max_position_embeddings=text.max_position_embeddings, norm_epsilon=text.rms_norm_eps, rotary_base=1000000,
        position_embedding_type="mrope", untie_embeddings_and_output_weights=not config.tie_word_embeddings, **more)


def qwen3_arguments(config):
    return arguments(config, qk_layernorm=True)


def qwen3_moe_arguments(config):
    text = config.text_config
    return arguments(config, qk_layernorm=True, num_experts=text.num_experts, moe_layer_freq=[0, 1],
                     moe_router_topk=text.num_experts_per_tok, moe_ffn_hidden_size=text.moe_intermediate_size)


FAMILIES = {
    "qwen2_5_vl": {"config": qwen2_5_config, "model": Qwen2_5_VLForConditionalGeneration,
                   "to_megatron": qwen2_5_to_megatron,
                   "arguments": lambda config: arguments(config, add_qkv_bias=True)},
    "qwen3_vl": {"config": qwen3_config, "model": Qwen3VLForConditionalGeneration, "to_megatron": qwen3_to_megatron,
                 "arguments": qwen3_arguments},
    "qwen3_vl_stacked": {"config": qwen3_config, "model": Qwen3VLForConditionalGeneration,
                         "to_megatron": qwen3_stacked_to_megatron, "arguments": qwen3_arguments},
    "qwen3_vl_moe": {"config": qwen3_moe_config, "model": Qwen3VLMoeForConditionalGeneration,
                     "golden": published_experts, "to_megatron": qwen3_to_megatron,
                     "arguments": qwen3_moe_arguments},
}
