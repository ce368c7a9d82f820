"""Pieces of the inverse mapping that several families share."""
import torch

FAMILIES = {}


def join_qkv(q, k, v, groups):
    """q, k, v of Hugging Face into linear_qkv: group by group its query heads, its key head, its value head."""
    tail = q.shape[1:]
    parts = [t.reshape(groups, -1, *tail) for t in (q, k, v)]
    return torch.cat(parts, dim=1).reshape(-1, *tail)


def move_attention(state, out, source, target, groups, biases=False):
    """self_attn of one layer; `source` and `target` are the layers' prefixes."""
    for kind in ("weight", "bias") if biases else ("weight",):
        q, k, v = (state.pop(f"{source}self_attn.{p}_proj.{kind}") for p in "qkv")
        out[f"{target}self_attention.linear_qkv.{kind}"] = join_qkv(q, k, v, groups)
    out[f"{target}self_attention.linear_proj.weight"] = state.pop(f"{source}self_attn.o_proj.weight")


def move_gated_mlp(state, out, source, target):
    """gate_proj, up_proj and down_proj under `source` into linear_fc1 and linear_fc2 under `target`."""
    out[f"{target}linear_fc1.weight"] = torch.cat(
        [state.pop(f"{source}gate_proj.weight"), state.pop(f"{source}up_proj.weight")])
    out[f"{target}linear_fc2.weight"] = state.pop(f"{source}down_proj.weight")


def move_experts(state, out, source, target, experts):
    """Experts under `source`{e}. into experts under `target`{e}., whether transformers stacks them or not."""
    stacked = state.pop(f"{source}gate_up_proj", None)
    if stacked is not None:
        down = state.pop(f"{source}down_proj")
        for e in range(experts):
            out[f"{target}{e}.linear_fc1.weight"] = stacked[e]
            out[f"{target}{e}.linear_fc2.weight"] = down[e]
        return
    for e in range(experts):
        move_gated_mlp(state, out, f"{source}{e}.", f"{target}{e}.")


def move(state, out, names):
    for source, target in names.items():
        out[target] = state.pop(source)


def finish(state, out):
    if state:
        raise SystemExit(f"weights of the model that the inverse mapping does not know: {sorted(state)}")
    return out
