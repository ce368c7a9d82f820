#!/usr/bin/env python3
"""Writes a Megatron checkpoint of a family that no real fixture covers, and the Hugging Face directory it stands for.

    derive_checkpoint.py FAMILY OUT        derive_checkpoint.py --list

transformers builds a tiny model of the family with seeded random weights: OUT/golden_hf. The family's own inverse of the
mapping (families/*.py), written from the module layouts of both sides and sharing nothing with Slipway, turns its state
into Megatron's names: OUT/iter_0000100 in the torch_dist format. Needs torch, transformers and safetensors.
"""
import argparse
import importlib
import json
import os
import pkgutil
import sys

import torch
import torch.distributed.checkpoint as dcp

import families

REGISTRY = {}
for module in pkgutil.iter_modules(families.__path__):
    REGISTRY.update(importlib.import_module(f"families.{module.name}").FAMILIES)


def randomize(model, seed):
    """Every parameter and buffer that is stored gets values that differ in every element and are exact in BF16."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator).mul_(0.05).to(torch.bfloat16))


def save_golden(model, path, float32, change):
    model.save_pretrained(path)
    from safetensors.torch import load_file, save_file
    file = os.path.join(path, "model.safetensors")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        tensors[name] = tensor.float() if name.endswith(float32) else tensor
    change(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return tensors


def save_megatron(state, arguments, path):
    iteration = os.path.join(path, "iter_0000100")
    os.makedirs(iteration)
    dcp.save({k: v.contiguous() for k, v in state.items()}, storage_writer=dcp.FileSystemWriter(iteration), no_dist=True)
    torch.save({"args": argparse.Namespace(**arguments), "checkpoint_version": 3.0, "iteration": 100},
               os.path.join(iteration, "common.pt"))
    with open(os.path.join(iteration, "metadata.json"), "w") as f:
        json.dump({"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch",
                   "common_backend_version": 1}, f)
    with open(os.path.join(path, "latest_checkpointed_iteration.txt"), "w") as f:
        f.write("100")


def derive(family, out, seed=1):
    spec = REGISTRY[family]
    torch.manual_seed(seed)
    config = spec["config"]()
    model = spec["model"](config).to(torch.bfloat16).eval()
    randomize(model, seed)
    spec.get("prepare", lambda model: None)(model)
    golden = save_golden(model, os.path.join(out, "golden_hf"), tuple(spec.get("float32", ())),
                         lambda tensors: spec.get("golden", lambda *_: None)(tensors, config))
    state = spec["to_megatron"](dict(golden), config)
    save_megatron(state, {**COMMON_ARGUMENTS, **spec["arguments"](config)}, out)


# What Megatron-LM's arguments say of every model here, unless the family says otherwise.
COMMON_ARGUMENTS = dict(
    params_dtype=torch.bfloat16, bf16=True, fp16=False, normalization="RMSNorm", swiglu=True, add_bias_linear=False,
    add_qkv_bias=False, qk_layernorm=False, position_embedding_type="rope", rotary_percent=1.0, use_rope_scaling=False,
    untie_embeddings_and_output_weights=True, apply_layernorm_1p=False, tensor_model_parallel_size=1,
    pipeline_model_parallel_size=1, num_experts=None, multi_latent_attention=False)


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(sorted(REGISTRY)))
        return
    if len(sys.argv) != 3 or sys.argv[1] not in REGISTRY:
        sys.exit(__doc__)
    derive(sys.argv[1], sys.argv[2])


if __name__ == "__main__":
    main()
