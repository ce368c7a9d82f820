"""A Hugging Face directory as the source: the same model again, split anew, or dequantized."""
import json
import random
import shutil
import struct
import unittest

from artifact import read_directory, tensor_differences
from harness import CHECKPOINTS, REFUSED, Scratch, Service, describe, fixtures, reason_of, slipway


def safetensors(tensors):
    """The bytes of a file of {name: (dtype, shape, bytes)}."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_model(directory, files, config):
    """`files`: one {name: (dtype, shape, bytes)} a file; an index where there are several."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    if len(files) == 1:
        (directory / "model.safetensors").write_bytes(safetensors(files[0]))
        return
    weight_map, total = {}, 0
    for number, tensors in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        (directory / name).write_bytes(safetensors(tensors))
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(len(tensor[2]) for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def value_of(code):
    """Of an E4M3 code, by definition."""
    exponent, fraction = code >> 3 & 15, code & 7
    value = fraction * 2.0**-9 if exponent == 0 else (8 + fraction) * 2.0**(exponent - 10)
    return -value if code & 128 else value


def bf16(value):
    """The bits of the nearest BF16 of an FP32 value, ties to even."""
    bits, = struct.unpack("<I", struct.pack("<f", value))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def fp8_matrix(rows, columns, generator, block=128):
    """Codes, scales, and the BF16 values that they stand for."""
    codes = bytes(code - (code & 127 == 127) for code in generator.randbytes(rows * columns))
    blocks = (-(-rows // block), -(-columns // block))
    scales = [struct.unpack("<f", struct.pack("<f", generator.uniform(1e-4, 1e-2)))[0]
              for _ in range(blocks[0] * blocks[1])]
    values = []
    for i, code in enumerate(codes):
        scale = scales[i // columns // block * blocks[1] + i % columns // block]
        # Exact as a double; struct rounds it to FP32.
        product, = struct.unpack("<f", struct.pack("<f", value_of(code) * scale))
        values.append(bf16(product))
    return codes, blocks, struct.pack(f"<{len(scales)}f", *scales), struct.pack(f"<{len(values)}H", *values)


FP8_CONFIG = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
              "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}}


class HuggingFaceSources(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = cls.enterClassContext(Scratch())
        cls.service = cls.enterClassContext(Service(cls.scratch / "svc", workers=2))

    def export(self, source, name, *options):
        output = self.scratch / name
        result = self.service.run("export", source, output, *options)
        self.assertEqual(0, result.returncode, describe(result) + self.service.logs())
        verified = slipway("verify", output)
        self.assertEqual(0, verified.returncode, describe(verified))
        return output

    def refuse(self, source, reason, *options):
        result = self.service.run("export", source, self.scratch / "refused", *options)
        self.assertEqual((REFUSED, reason), (result.returncode, reason_of(result)), describe(result))
        self.assertFalse((self.scratch / "refused").exists())
        return result.stderr

    def test_every_golden_comes_out_as_it_went_in(self):
        for fixture in fixtures():
            with self.subTest(fixture):
                golden = CHECKPOINTS / fixture / "golden_hf"
                output = self.export(golden, fixture)
                self.assertEqual([], tensor_differences(read_directory(output), read_directory(golden)))
                for name in ("config.json", "generation_config.json"):
                    if (golden / name).exists():
                        self.assertEqual((golden / name).read_bytes(), (output / name).read_bytes())

    def test_a_model_in_several_files_can_be_split_anew(self):
        golden = CHECKPOINTS / "llama3_tp2_pp2_torch_dist" / "golden_hf"
        tensors = read_directory(golden)
        files = [{}, {}, {}]
        for number, (name, tensor) in enumerate(tensors.items()):
            files[number * 7 % 3][name] = tensor
        source = self.scratch / "sharded"
        write_model(source, files, json.loads((golden / "config.json").read_text()))
        shutil.copy(golden / "config.json", source / "tokenizer.json")
        for name, options, least in (("one", (), 1), ("many", ("--max-shard-size", "64KB"), 4)):
            output = self.export(source, name, *options)
            self.assertGreaterEqual(len(list(output.glob("*.safetensors"))), least)
            self.assertEqual([], tensor_differences(read_directory(output), tensors))
            self.assertEqual((source / "config.json").read_bytes(), (output / "config.json").read_bytes())
            self.assertTrue((output / "tokenizer.json").exists())

    def test_fp8_blocks_are_copied_or_dequantized(self):
        generator = random.Random(5)
        files, expected = [{}, {}], {}
        for number, shape in enumerate([(130, 140), (128, 128), (7, 300), (257, 1)]):
            codes, blocks, scales, values = fp8_matrix(*shape, generator)
            name = f"model.layers.{number}.weight"
            files[number % 2][name] = ("F8_E4M3", shape, codes)
            files[number // 2][name + "_scale_inv"] = ("F32", blocks, scales)
            expected[name] = ("BF16", shape, values)
        files[0]["model.norm.weight"] = expected["model.norm.weight"] = ("BF16", (9,), generator.randbytes(18))
        source = self.scratch / "fp8"
        write_model(source, files, FP8_CONFIG)

        copy = self.export(source, "fp8-copy")
        self.assertEqual([], tensor_differences(read_directory(copy), files[0] | files[1]))
        self.assertEqual(FP8_CONFIG, json.loads((copy / "config.json").read_text()))

        plain = self.export(source, "fp8-plain", "--dtype", "bf16", "--max-shard-size", "40KB")
        self.assertEqual([], tensor_differences(read_directory(plain), expected))
        config = json.loads((plain / "config.json").read_text())
        self.assertNotIn("quantization_config", config)
        self.assertEqual("bfloat16", config["torch_dtype"])

        del files[1]["model.layers.3.weight_scale_inv"]
        write_model(self.scratch / "fp8-broken", files, FP8_CONFIG)
        said = self.refuse(self.scratch / "fp8-broken", "TENSOR_MISSING", "--dtype", "bf16")
        self.assertIn("model.layers.3.weight_scale_inv", said)

    def test_what_cannot_be_a_source_is_refused_by_name(self):
        pickled = self.scratch / "pickled"
        pickled.mkdir()
        (pickled / "config.json").write_text("{}")
        (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        self.assertIn("safetensors", self.refuse(pickled, "CHECKPOINT_UNSUPPORTED"))
        gptq = self.scratch / "gptq"
        write_model(gptq, [{"l.qweight": ("I32", (2,), b"12345678")}], {"quantization_config": {"quant_method": "gptq"}})
        self.assertIn("gptq", self.refuse(gptq, "OPTION_UNSUPPORTED", "--dtype", "fp16"))
        self.assertEqual(read_directory(gptq), read_directory(self.export(gptq, "gptq-copy")))

    def test_inspect_describes_it(self):
        result = self.service.run("inspect", CHECKPOINTS / "qwen3_tp2_pp2_mcore014_torch_dist" / "golden_hf", "--json")
        self.assertEqual(0, result.returncode, describe(result))
        for word in ("huggingface", "Qwen3ForCausalLM", "BF16"):
            self.assertIn(word, result.stdout)


if __name__ == "__main__":
    unittest.main()
