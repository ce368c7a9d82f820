"""Families with gated delta nets: Qwen3-Next, Qwen3.5 (text)."""
import torch
from transformers import (Qwen3_5ForCausalLM, Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig, Qwen3_5TextConfig,
                          Qwen3NextConfig, Qwen3NextForCausalLM)

from .layers import finish, move, move_experts, move_gated_mlp

SIZES = dict(
    vocab_size=64, hidden_size=16, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=8, linear_value_head_dim=4,
    linear_conv_kernel_dim=4, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2,
    rope_parameters={"rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.25},
    dtype="bfloat16")
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=24)
MIXED = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]


def next_config():
    return Qwen3NextConfig(**SIZES, **EXPERTS, intermediate_size=28, norm_topk_prob=True)


def next_config_mixed():
    return Qwen3NextConfig(**{**SIZES, "num_key_value_heads": 4, "linear_num_value_heads": 2}, **EXPERTS,
                           intermediate_size=28, norm_topk_prob=True, layer_types=MIXED, mlp_only_layers=[0, 2])


def dense_config():
    return Qwen3_5TextConfig(**SIZES, intermediate_size=28, tie_word_embeddings=True)


def moe_config():
    return Qwen3_5MoeTextConfig(**SIZES, **EXPERTS)


def gated_qkv(q, k, v, config):
    """q_proj has each head followed by its gate; Megatron has of each group the query heads, their gates, key, value."""
    groups, dim = config.num_key_value_heads, config.head_dim
    heads = config.num_attention_heads // groups
    q = q.reshape(groups, heads, 2, dim, -1).transpose(1, 2).reshape(groups, 2 * heads * dim, -1)
    return torch.cat([q, k.reshape(groups, dim, -1), v.reshape(groups, dim, -1)], dim=1).reshape(
        groups * (2 * heads + 2) * dim, -1)


def move_attention(state, out, source, target, config):
    q, k, v = (state.pop(f"{source}self_attn.{name}_proj.weight") for name in "qkv")
    out[f"{target}self_attention.linear_qkv.weight"] = gated_qkv(q, k, v, config)
    move(state, out, {f"{source}self_attn.{a}.weight": f"{target}self_attention.{b}.weight" for a, b in
                      (("q_norm", "q_layernorm"), ("k_norm", "k_layernorm"), ("o_proj", "linear_proj"))})
    move(state, out, {f"{source}input_layernorm.weight": f"{target}self_attention.linear_qkv.layer_norm_weight"})


def separate_input(state, source, config):
    """query, key, value, z, beta, alpha of in_proj, each flat over its heads."""
    key_rows = config.linear_num_key_heads * config.linear_key_head_dim
    if f"{source}in_proj_qkv.weight" in state:
        parts = list(torch.split(state.pop(f"{source}in_proj_qkv.weight"),
                                 [key_rows, key_rows, config.linear_num_value_heads * config.linear_value_head_dim]))
        return parts + [state.pop(f"{source}in_proj_{name}.weight") for name in "zba"]
    heads = config.linear_num_key_heads
    values = config.linear_num_value_heads // heads
    sizes = [config.linear_key_head_dim] * 2 + [values * config.linear_value_head_dim] * 2
    qkvz = state.pop(f"{source}in_proj_qkvz.weight").reshape(heads, sum(sizes), -1)
    ba = state.pop(f"{source}in_proj_ba.weight").reshape(heads, 2 * values, -1)
    return [part.reshape(-1, part.shape[-1])
            for part in (*torch.split(qkvz, sizes, dim=1), *torch.split(ba, [values, values], dim=1))]


def move_delta_net(state, out, source, target, config):
    source, inside = f"{source}linear_attn.", f"{target}self_attention."
    for name, part in zip(("query", "key", "value", "z", "beta", "alpha"), separate_input(state, source, config)):
        out[f"{inside}in_proj.weight.{name}"] = part
    key_rows = config.linear_num_key_heads * config.linear_key_head_dim
    value_rows = config.linear_num_value_heads * config.linear_value_head_dim
    for name, part in zip(("query", "key", "value"), torch.split(state.pop(f"{source}conv1d.weight"),
                                                                 [key_rows, key_rows, value_rows])):
        out[f"{inside}conv1d.weight.{name}"] = part
    move(state, out, {f"{source}{name}": f"{inside}{name}" for name in ("A_log", "dt_bias", "out_proj.weight")})
    # Megatron stores gamma - 1 of every norm; what the checkpoint holds is what is exact in its type.
    out[f"{inside}out_norm.weight"] = state.pop(f"{source}norm.weight") - 1


def move_feed(state, out, source, target, config):
    norm = f"{source}post_attention_layernorm.weight"
    if f"{source}mlp.gate.weight" not in state:
        move(state, out, {norm: f"{target}mlp.linear_fc1.layer_norm_weight"})
        move_gated_mlp(state, out, f"{source}mlp.", f"{target}mlp.")
        return
    move(state, out, {norm: f"{target}pre_mlp_layernorm.weight",
                      f"{source}mlp.gate.weight": f"{target}mlp.router.weight",
                      f"{source}mlp.shared_expert_gate.weight": f"{target}mlp.shared_experts.gate_weight"})
    move_gated_mlp(state, out, f"{source}mlp.shared_expert.", f"{target}mlp.shared_experts.")
    inside = f"{target}mlp.experts.experts."
    move_experts(state, out, f"{source}mlp.experts.", inside, config.num_experts)
    if target.startswith("decoder."):  # both ways in which Megatron stores experts
        for linear in ("linear_fc1.weight", "linear_fc2.weight"):
            out[inside + linear] = torch.stack([out.pop(f"{inside}{e}.{linear}") for e in range(config.num_experts)])


def to_megatron(state, config):
    out = {}
    move(state, out, {"model.embed_tokens.weight": "embedding.word_embeddings.weight",
                      "model.norm.weight": "decoder.final_layernorm.weight"})
    if not config.tie_word_embeddings:
        move(state, out, {"lm_head.weight": "output_layer.weight"})
    for i, mixer in enumerate(config.layer_types):
        source, target = f"model.layers.{i}.", f"decoder.layers.{i}."
        if mixer == "linear_attention":
            move_delta_net(state, out, source, target, config)
            move(state, out, {f"{source}input_layernorm.weight": f"{target}self_attention.in_proj.layer_norm_weight"})
        else:
            move_attention(state, out, source, target, config)
        move_feed(state, out, source, target, config)
    if "mtp.fc.weight" in state:
        move(state, out, {"mtp.fc.weight": "mtp.layers.0.eh_proj.weight", "mtp.norm.weight":
                          "mtp.layers.0.final_layernorm.weight",
                          "mtp.pre_fc_norm_embedding.weight": "mtp.layers.0.enorm.weight",
                          "mtp.pre_fc_norm_hidden.weight": "mtp.layers.0.hnorm.weight"})
        move_attention(state, out, "mtp.layers.0.", "mtp.layers.0.transformer_layer.", config)
        move_feed(state, out, "mtp.layers.0.", "mtp.layers.0.transformer_layer.", config)
    return finish(state, out)


def output_norms(model):
    """The output norms' gammas are such that gamma - 1 is exact in BF16."""
    for name, tensor in model.state_dict().items():
        if name.endswith("linear_attn.norm.weight"):
            tensor.copy_((tensor * 8).round() / 64 + 1)


def with_prediction(tensors, config):
    """A prediction layer in Hugging Face's names: transformers ignores it, servers read it."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape):
        return torch.randn(shape, generator=generator).mul_(0.05).to(torch.bfloat16)

    hidden = config.hidden_size
    last = config.layer_types.index("full_attention")
    tensors.update({"mtp.fc.weight": random(hidden, 2 * hidden), "mtp.norm.weight": random(hidden),
                    "mtp.pre_fc_norm_embedding.weight": random(hidden), "mtp.pre_fc_norm_hidden.weight": random(hidden)})
    for name in [n for n in tensors if n.startswith(f"model.layers.{last}.")]:
        inner = name.replace(f"model.layers.{last}.", "mtp.layers.0.")
        if inner.endswith("experts.gate_up_proj"):
            for e, expert in enumerate(tensors[name]):
                gate, up = torch.randn_like(expert.float()).to(torch.bfloat16).chunk(2)
                tensors[inner.replace("gate_up_proj", f"{e}.gate_proj.weight")] = gate.contiguous()
                tensors[inner.replace("gate_up_proj", f"{e}.up_proj.weight")] = up.contiguous()
        elif inner.endswith("experts.down_proj"):
            for e, expert in enumerate(tensors[name]):
                tensors[inner.replace("down_proj", f"{e}.down_proj.weight")] = random(*expert.shape)
        else:
            tensors[inner] = random(*tensors[name].shape)


def stacked(tensors, config):
    """Experts of the decoder as the published Qwen3.5 stacks them."""
    for i in range(config.num_hidden_layers):
        prefix = f"model.layers.{i}.mlp.experts."
        if f"{prefix}0.gate_proj.weight" not in tensors:
            continue
        experts = range(config.num_experts)
        tensors[f"{prefix}gate_up_proj"] = torch.stack(
            [torch.cat([tensors.pop(f"{prefix}{e}.{p}_proj.weight") for p in ("gate", "up")]) for e in experts])
        tensors[f"{prefix}down_proj"] = torch.stack([tensors.pop(f"{prefix}{e}.down_proj.weight") for e in experts])


def arguments(config):
    out = dict(
        num_layers=config.num_hidden_layers, hidden_size=config.hidden_size,
        ffn_hidden_size=getattr(config, "intermediate_size", 28), num_attention_heads=config.num_attention_heads,
        group_query_attention=True, num_query_groups=config.num_key_value_heads, kv_channels=config.head_dim,
        vocab_size=config.vocab_size, max_position_embeddings=config.max_position_embeddings,
        norm_epsilon=config.rms_norm_eps, rotary_base=10000000, rotary_percent=0.25, qk_layernorm=True,
        apply_layernorm_1p=True, attention_output_gate=True, experimental_attention_variant="gated_delta_net",
        untie_embeddings_and_output_weights=not config.tie_word_embeddings, init_method_std=0.02,
        linear_attention_freq=[int(mixer == "linear_attention") for mixer in config.layer_types],
        linear_conv_kernel_dim=config.linear_conv_kernel_dim, linear_key_head_dim=config.linear_key_head_dim,
        linear_value_head_dim=config.linear_value_head_dim, linear_num_key_heads=config.linear_num_key_heads,
        linear_num_value_heads=config.linear_num_value_heads)
    if getattr(config, "num_experts", None):
        dense = getattr(config, "mlp_only_layers", None) or []
        out.update(num_experts=config.num_experts, moe_router_topk=config.num_experts_per_tok,
                   moe_layer_freq=[int(i not in dense) for i in range(config.num_hidden_layers)],
                   moe_ffn_hidden_size=config.moe_intermediate_size, moe_shared_expert_gate=True,
                   moe_shared_expert_intermediate_size=config.shared_expert_intermediate_size,
                   moe_router_pre_softmax=False, moe_aux_loss_coeff=config.router_aux_loss_coef)
    return out


def interval_arguments(config):
    return {**arguments(config), "linear_attention_freq": 4}


def family(config, model, golden=(), arguments=arguments):
    def change(tensors, config):
        for step in golden:
            step(tensors, config)
    return {"config": config, "model": model, "to_megatron": to_megatron, "arguments": arguments,
            "prepare": output_norms, "golden": change}


FAMILIES = {
    "qwen3_next": family(next_config, Qwen3NextForCausalLM, [with_prediction], interval_arguments),
    "qwen3_next_mixed": family(next_config_mixed, Qwen3NextForCausalLM),
    "qwen3_5": family(dense_config, Qwen3_5ForCausalLM, [with_prediction]),
    "qwen3_5_moe": family(moe_config, Qwen3_5MoeForCausalLM, [stacked, with_prediction]),
}
