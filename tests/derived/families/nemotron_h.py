"""Nemotron-H with experts, of full and of latent width, and a prediction layer of two."""
import torch
from transformers import NemotronHConfig, NemotronHForCausalLM

from .layers import finish, join_qkv, move

KINDS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
NESTED = "mtp.layers.0.mtp_model_layer."


def tiny(pattern, **more):
    return NemotronHConfig(
        vocab_size=64, hidden_size=16, layers_block_type=[KINDS[letter] for letter in pattern], num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=28, ssm_state_size=8, mamba_num_heads=6, mamba_head_dim=4,
        n_groups=2, conv_kernel=4, chunk_size=16, max_position_embeddings=512, n_routed_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=16, moe_shared_expert_intermediate_size=24,
        routed_scaling_factor=2.5, layer_norm_epsilon=1e-5, dtype="bfloat16", **more)


def latent_config():
    return tiny("ME*EM-", moe_latent_size=8, num_nextn_predict_layers=1)


def full_config():
    return tiny("MEM*E", n_group=2, topk_group=1)


def with_prediction(tensors, config):
    """mtp.layers.{0,1}: attention and experts, as the published checkpoints have them; transformers ignores them."""
    if not config.num_nextn_predict_layers:
        return
    generator = torch.Generator().manual_seed(7)

    def random(*shape):
        return torch.randn(shape, generator=generator).mul_(0.05).to(torch.bfloat16)

    hidden = config.hidden_size
    for name in ("full_attention", "moe"):
        layer = config.layers_block_type.index(name)
        number = ("full_attention", "moe").index(name)
        for key in [k for k in tensors if k.startswith(f"backbone.layers.{layer}.")]:
            inner = key.replace(f"backbone.layers.{layer}.", f"mtp.layers.{number}.")
            tensors[inner] = random(*tensors[key].shape).to(tensors[key].dtype)
    tensors.update({"mtp.layers.0.eh_proj.weight": random(hidden, 2 * hidden),
                    "mtp.layers.0.enorm.weight": random(hidden), "mtp.layers.0.hnorm.weight": random(hidden),
                    "mtp.layers.1.final_layernorm.weight": random(hidden)})


def move_layer(state, out, source, target, config):
    """One layer of any kind, which its tensors show."""
    mixer = f"{source}mixer."
    if f"{mixer}A_log" in state:
        rows, state_rows = config.mamba_num_heads * config.mamba_head_dim, config.n_groups * config.ssm_state_size
        for name, part in zip(("z", "x", "B", "C", "dt"), torch.split(
                state.pop(f"{mixer}in_proj.weight"), [rows, rows, state_rows, state_rows, config.mamba_num_heads])):
            out[f"{target}mixer.in_proj.weight.{name}"] = part
        for kind in ("weight", "bias"):
            for name, part in zip(("x", "B", "C"), torch.split(state.pop(f"{mixer}conv1d.{kind}"),
                                                               [rows, state_rows, state_rows])):
                out[f"{target}mixer.conv1d.{kind}.{name}"] = part
        move(state, out, {f"{mixer}{name}": f"{target}mixer.{name}"
                          for name in ("A_log", "D", "dt_bias", "norm.weight", "out_proj.weight")})
        move(state, out, {f"{source}norm.weight": f"{target}mixer.in_proj.layer_norm_weight"})
    elif f"{mixer}q_proj.weight" in state:
        q, k, v = (state.pop(f"{mixer}{name}_proj.weight") for name in "qkv")
        out[f"{target}self_attention.linear_qkv.weight"] = join_qkv(q, k, v, config.num_key_value_heads)
        move(state, out, {f"{mixer}o_proj.weight": f"{target}self_attention.linear_proj.weight",
                          f"{source}norm.weight": f"{target}self_attention.linear_qkv.layer_norm_weight"})
    elif f"{mixer}gate.weight" in state:
        move(state, out, {f"{mixer}gate.weight": f"{target}mlp.router.weight",
                          f"{mixer}gate.e_score_correction_bias": f"{target}mlp.router.expert_bias",
                          f"{mixer}shared_experts.up_proj.weight": f"{target}mlp.shared_experts.linear_fc1.weight",
                          f"{mixer}shared_experts.down_proj.weight": f"{target}mlp.shared_experts.linear_fc2.weight",
                          f"{source}norm.weight": f"{target}pre_mlp_layernorm.weight"})
        for number, name in ((1, "up"), (2, "down")):
            if config.moe_latent_size:
                move(state, out, {f"{mixer}fc{number}_latent_proj.weight": f"{target}mlp.fc{number}_latent_proj.weight"})
            stack = [state.pop(f"{mixer}experts.{e}.{name}_proj.weight") for e in range(config.n_routed_experts)]
            out[f"{target}mlp.experts.experts.linear_fc{number}.weight"] = torch.stack(stack)
    else:
        move(state, out, {f"{mixer}up_proj.weight": f"{target}mlp.linear_fc1.weight",
                          f"{mixer}down_proj.weight": f"{target}mlp.linear_fc2.weight",
                          f"{source}norm.weight": f"{target}mlp.linear_fc1.layer_norm_weight"})


def to_megatron(state, config):
    out = {}
    move(state, out, {"backbone.embeddings.weight": "embedding.word_embeddings.weight",
                      "backbone.norm_f.weight": "decoder.final_norm.weight", "lm_head.weight": "output_layer.weight"})
    for i in range(len(config.layers_block_type)):
        move_layer(state, out, f"backbone.layers.{i}.", f"decoder.layers.{i}.", config)
    if config.num_nextn_predict_layers:
        for name in ("eh_proj", "enorm", "hnorm"):
            move(state, out, {f"mtp.layers.0.{name}.weight": f"mtp.layers.0.{name}.weight"})
        move(state, out, {"mtp.layers.1.final_layernorm.weight": "mtp.layers.0.final_layernorm.weight"})
        for j in range(2):
            move_layer(state, out, f"mtp.layers.{j}.", f"{NESTED}layers.{j}.", config)
    return finish(state, out)


def arguments(config):
    pattern = "".join(next(k for k, v in KINDS.items() if v == kind) for kind in config.layers_block_type)
    return dict(
        hybrid_layer_pattern=pattern + "/*E" * config.num_nextn_predict_layers, hidden_size=config.hidden_size,
        num_layers=len(pattern), ffn_hidden_size=config.intermediate_size, swiglu=False, squared_relu=True,
        num_attention_heads=config.num_attention_heads, group_query_attention=True,
        num_query_groups=config.num_key_value_heads, kv_channels=config.head_dim, vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings, norm_epsilon=config.layer_norm_epsilon,
        position_embedding_type="none", init_method_std=0.02, num_experts=config.n_routed_experts,
        moe_router_topk=config.num_experts_per_tok, moe_ffn_hidden_size=config.moe_intermediate_size,
        moe_shared_expert_intermediate_size=config.moe_shared_expert_intermediate_size,
        moe_latent_size=config.moe_latent_size, moe_router_score_function="sigmoid",
        moe_router_enable_expert_bias=True, moe_router_topk_scaling_factor=config.routed_scaling_factor,
        moe_router_num_groups=config.n_group, moe_router_group_topk=config.topk_group,
        mamba_state_dim=config.ssm_state_size, mamba_head_dim=config.mamba_head_dim, mamba_num_heads=None,
        mamba_num_groups=config.n_groups, mamba_chunk_size=config.chunk_size)


def family(config):
    return {"config": config, "model": NemotronHForCausalLM, "to_megatron": to_megatron, "arguments": arguments,
            "golden": with_prediction, "float32": ("e_score_correction_bias",)}


FAMILIES = {"nemotron_h_latent": family(latent_config), "nemotron_h_experts": family(full_config)}
