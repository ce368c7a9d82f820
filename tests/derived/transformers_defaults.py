#!/usr/bin/env python3
"""Writes tests/data/transformers_defaults.json: what transformers assumes where a config.json says nothing, for each
model type of the golden directories. Plain values only; what it computes from other fields is not there."""
import json
import pathlib

from transformers import CONFIG_MAPPING

data = pathlib.Path(__file__).resolve().parents[1] / "data"
types = {json.loads(path.read_text())["model_type"] for path in data.glob("checkpoints/*/golden_hf/config.json")}
defaults = {}
for name in sorted(types):
    config = CONFIG_MAPPING[name]().to_dict()
    defaults[name] = {key: value for key, value in sorted(config.items()) if isinstance(value, (bool, int, float, str))}
(data / "transformers_defaults.json").write_text(json.dumps(defaults, indent=1) + "\n")
