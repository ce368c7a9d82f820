#!/usr/bin/env python3
"""Says of exports that other tools quantized what tests/e2e/test_quantized_goldens.py compares: a file of
tests/data/ptq/ each, SOURCE_NAME.json.

    ptq_goldens.py GOLDENS OUTPUT      GOLDENS/SOURCE/{source,NAME/export,NAME/quantizers.json}
"""
import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from artifact import read_directory  # noqa: E402
from quantized import bf16, decode, values_of  # noqa: E402
from test_quantized_goldens import GOLDENS  # noqa: E402

# What an input's amax is in units of the stored scale. Amaxes are in BF16, so that they can be had back from scales.
BOUNDS = {"fp8": 448, "nvfp4": 2688, "int8": 127.5}


def scalar(value):
    if isinstance(value, list):
        return scalar(value[0]) if len(value) == 1 else None
    return value


def amaxes(path):
    """From ModelOpt's quantizers: of inputs, and of keys and values."""
    ranges = {}
    if path.exists():
        for name, quantizer in json.loads(path.read_text()).items():
            amax = scalar(quantizer.get("amax"))
            for suffix, stands_for in (("input_quantizer", "input_amax"), ("k_bmm_quantizer", "k_amax"),
                                       ("v_bmm_quantizer", "v_amax")):
                if amax is not None and name.endswith("." + suffix):
                    ranges[name.removesuffix(suffix) + stands_for] = amax
    return ranges


def ranges_of(golden, tensors, path):
    if not golden.ranges:
        return {}
    ranges = amaxes(path)
    bound = BOUNDS.get(golden.format)  # none of a mixture: its quantizers say all
    for name, tensor in tensors.items():
        module, suffix = name.rsplit(".", 1)
        if bound is None:
            continue
        if suffix == "input_scale":
            ranges.setdefault(f"{module}.input_amax", bf16(values_of(tensor)[0] * bound))
        elif suffix == "input_global_scale":
            ranges.setdefault(f"{module}.input_amax", bf16(bound / values_of(tensor)[0]))
    return ranges


def describe(golden, root):
    source = read_directory(root / golden.source / "source")
    tensors = read_directory(root / golden.source / golden.name / "export")
    errors = {}
    for name, tensor in source.items():
        module = name.removesuffix(".weight")
        weight = decode(tensors, module, tensor[1]) if len(tensor[1]) == 2 else None
        if weight is not None:
            errors[module] = weight.squared_error(values_of(tensor))
    return {"ranges": ranges_of(golden, tensors, root / golden.source / golden.name / "quantizers.json"),
            "squared_errors": errors,
            "tensors": {name: values_of(tensor)[0] if tensor[0] == "F32" and len(tensor[2]) == 4
                        else hashlib.sha256(tensor[2]).hexdigest() for name, tensor in sorted(tensors.items())}}


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    for golden in GOLDENS:
        text = json.dumps(describe(golden, Path(sys.argv[1])), indent=0)
        (Path(sys.argv[2]) / f"{golden.source}_{golden.name}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
