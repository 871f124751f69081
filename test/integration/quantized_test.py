# ===- quantized_test.py - Quantised checkpoints are what they stand for -----===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# A small Mixtral is rewritten into every format (quantize.py) together with a twin that holds the
# same numbers unquantised. Both are compiled and run: the logits must agree, and the quantised one
# must have kept its codes. What a checkpoint can have wrong is refused by name.
#
# ===------------------------------------------------------------------------===#
import json
import re
import struct
import unittest

import quantize
from support import BIN, INVALID_ARGUMENT, MIXTRAL, ProgramTest, read_header, read_tensor

TOKENS = "3,17,99,4,56,23,120,8,77,42,5,64"
TOLERANCE = 1e-3


def plan_formats(text):
    """name -> format, of the weights of a module at phase planned."""
    return dict(re.findall(r'plan\.weight @(\S+) from .* format "([^"]+)"', text))


class Quantized(ProgramTest):

    def rewrite(self, form, **options):
        checkpoint, twin = self.dir / form, self.dir / f"{form}-twin"
        quantize.rewrite(MIXTRAL, form, checkpoint, twin, **options)
        return checkpoint, twin

    def logits(self, checkpoint, *flags):
        artifact = self.compile(checkpoint, f"{checkpoint.name}.sluice", *flags)
        out = self.dir / "logits.safetensors"
        self.run_program("sluice-run", artifact, "--token-ids", TOKENS, "--logits-out", out)
        values, (rows, _) = read_tensor(out, "logits")
        self.assertEqual(rows, TOKENS.count(",") + 1)
        return values

    def compare(self, checkpoint, twin, tolerance=TOLERANCE, flags=()):
        expected, found = self.logits(twin), self.logits(checkpoint, *flags)
        self.assertLessEqual(max(abs(a - b) for a, b in zip(expected, found)), tolerance)
        self.assertGreater(max(map(abs, expected)), 1)

    def planned(self, checkpoint, *flags):
        return self.run_program("sluice-compile", checkpoint, "--compile-to=planned", *flags)


class Formats(Quantized):
    """One method for every format, made below."""

    def check(self, form):
        checkpoint, twin = self.rewrite(form)
        self.compare(checkpoint, twin)
        packed = quantize.FORMATS[form][2]
        formats = plan_formats(self.planned(checkpoint).stdout)
        for part in ("attn.qkv", "attn.o", "experts.gate_up", "experts.down"):
            if packed:
                self.assertEqual(formats[f"layers.1.{part}"], packed, part)
            else:  # groups as long as a row: one scale per row
                self.assertRegex(formats[f"layers.1.{part}"], ":channel$", part)
        self.assertEqual(formats["layers.0.router"], "bf16")
        self.assertEqual(formats["head"], "bf16")


for name in quantize.FORMATS:
    setattr(Formats, "test_" + name.replace("-", "_"), lambda self, form=name: self.check(form))


class Mixtures(Quantized):

    def test_a_projection_that_was_left_out(self):
        def linear(name, shape):
            return quantize.is_linear(name, shape) and not name.endswith("k_proj.weight")

        checkpoint, twin = self.rewrite("ct-int8", linear=linear)
        self.compare(checkpoint, twin)
        result = self.planned(checkpoint)
        formats = plan_formats(result.stdout)
        self.assertEqual(formats["layers.0.attn.qkv"], "f32")
        self.assertEqual(formats["layers.0.attn.o"], "i8:channel")
        self.assertRegex(result.stderr, r"quantised weight @layers\.0\.attn\.qkv is stored as \d+ "
                         "bytes of f32")

    def test_numbers_on_request(self):
        checkpoint, twin = self.rewrite("ct-int4")
        self.compare(checkpoint, twin, flags=("--quantize", "f32"))
        for form in ("f32", "bf16"):
            formats = plan_formats(self.planned(checkpoint, "--quantize", form).stdout)
            self.assertEqual(formats["layers.0.attn.qkv"], form)

    def test_shards(self):
        # Codes and scales of an expert need not lie in one file.
        checkpoint, twin = self.rewrite("fp8-block-small")
        data = (checkpoint / "model.safetensors").read_bytes()
        header, start = read_header(checkpoint / "model.safetensors")
        weight_map = {}
        for number, wanted in enumerate((False, True), 1):
            file, shard, content = f"model-0000{number}-of-00002.safetensors", {}, b""
            for name, entry in header.items():
                if name.endswith("_scale_inv") == wanted:
                    first, last = entry["data_offsets"]
                    shard[name] = dict(entry, data_offsets=[len(content),
                                                            len(content) + last - first])
                    content += data[start + first:start + last]
                    weight_map[name] = file
            text = json.dumps(shard).encode()
            (checkpoint / file).write_bytes(struct.pack("<Q", len(text)) + text + content)
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": weight_map}))
        self.compare(checkpoint, twin)


    def test_experts_that_quantisers_split(self):
        # Llama 4 stores a layer's experts as one tensor; quantised, each is a linear layer.
        model = MIXTRAL.parent / "llama4_text"
        config = json.loads((model / "config.json").read_text())
        split, shapes = {}, {}
        for name, shape, dtype, data in quantize.read_checkpoint(model):
            if ".experts." not in name:
                split[name] = (dtype, shape, data)
                continue
            prefix, part = name.rsplit(".", 1)
            experts, inputs, outputs = shape
            values = quantize.floats_of(dtype, data)
            shapes[name] = shape
            for expert in range(experts):
                size = inputs * outputs
                rows = quantize.transposed(values[expert * size:(expert + 1) * size], inputs,
                                           outputs)
                parts = {"down_proj": rows}
                if part == "gate_up_proj":
                    half = len(rows) // 2
                    parts = {"gate_proj": rows[:half], "up_proj": rows[half:]}
                for each, numbers in parts.items():
                    split[f"{prefix}.{expert}.{each}.weight"] = (
                        "F32", [len(numbers) // inputs, inputs],
                        quantize.pack_floats(numbers, "F32"))
        folder, quantized, apart = (self.dir / name for name in ("split", "quantized", "apart"))
        quantize.write_checkpoint(folder, config, split, model)
        quantize.rewrite(folder, "ct-fp8-channel", quantized, apart,
                         lambda name, shape: quantize.is_linear(name, shape)
                         and "router" not in name)
        settings = json.loads((quantized / "config.json").read_text())
        settings["quantization_config"]["ignore"] = ["lm_head", "re:.*router$"]
        (quantized / "config.json").write_text(json.dumps(settings))

        twin = {name: (dtype, shape, data)
                for name, shape, dtype, data in quantize.read_checkpoint(apart)}
        for name, (experts, inputs, outputs) in shapes.items():
            prefix, part = name.rsplit(".", 1)
            fused = []
            for expert in range(experts):
                rows = []
                for each in ("gate_proj", "up_proj") if part == "gate_up_proj" else ("down_proj",):
                    _, _, data = twin.pop(f"{prefix}.{expert}.{each}.weight")
                    rows.extend(quantize.floats_of("F32", data))
                fused.extend(quantize.transposed(rows, outputs, inputs))
            twin[name] = ("F32", [experts, inputs, outputs], quantize.pack_floats(fused, "F32"))
        quantize.write_checkpoint(self.dir / "twin", config, twin, model)
        self.compare(quantized, self.dir / "twin")
        formats = plan_formats(self.planned(quantized).stdout)
        self.assertIn("f8e4m3:channel", [formats.get(f"layers.{layer}.experts.gate_up")
                                         for layer in range(config["num_hidden_layers"])])


class Synthetic(Quantized):

    def test_every_configuration_alone(self):
        config = json.loads((MIXTRAL / "config.json").read_text())
        for form, (settings, _, packed) in quantize.FORMATS.items():
            folder = self.dir / form
            beside = settings.get("hf_quant_config")
            quantize.write_checkpoint(
                folder, config if beside else {**config, "quantization_config": settings}, {},
                MIXTRAL, beside)
            (folder / "model.safetensors").unlink()
            formats = plan_formats(self.planned(folder, "--weights=synthetic").stdout)
            for part in ("attn.qkv", "attn.o", "experts.gate_up", "experts.down"):
                self.assertRegex(formats[f"layers.0.{part}"], packed or ":channel$", form)
            self.assertEqual(formats["layers.0.router"], "bf16", form)
            self.assertEqual(formats["head"], "bf16", form)

    def test_run(self):
        for form in ("fp8-block", "ct-nvfp4", "ct-mxfp4", "gptq", "ct-int8"):
            folder = self.dir / form
            config = json.loads((MIXTRAL / "config.json").read_text())
            config["quantization_config"] = quantize.FORMATS[form][0]
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(config))
            logits = self.logits(folder, "--weights", "synthetic")
            self.assertTrue(0.1 < max(map(abs, logits)) < 100, max(map(abs, logits)))


class Refused(Quantized):
    """Spoils one thing of a checkpoint that compiles."""

    def spoil(self, form, messages, change_config=None, change_tensors=None, code=INVALID_ARGUMENT):
        folder = self.dir / f"{form}-{len(list(self.dir.iterdir()))}"
        settings, matrix, _ = quantize.FORMATS[form]
        config = json.loads((MIXTRAL / "config.json").read_text())
        config["quantization_config"] = json.loads(json.dumps(settings))
        if change_config:
            change_config(config)
        tensors = {}
        for name, shape, dtype, data in quantize.read_checkpoint(MIXTRAL):
            if name.endswith("q_proj.weight") and ".0." in name:
                values = quantize.Matrix(quantize.floats_of(dtype, data), *shape)
                for suffix, tensor in matrix(values)[0].items():
                    tensors[name.removesuffix("weight") + suffix] = tensor
            else:
                tensors[name] = (dtype, shape, data)
        if change_tensors:
            change_tensors(tensors)
        quantize.write_checkpoint(folder, config, tensors, MIXTRAL)
        self.refuse(code, messages, "sluice-compile", folder, "-o", self.dir / "never.sluice",
                    "--quiet")
        self.assertFalse((self.dir / "never.sluice").exists())

    Q = "model.layers.0.self_attn.q_proj."

    def tensors(self, form, suffix, message, change):
        """`change` maps the tensor's (dtype, shape, bytes) to another, or to nothing."""
        def apply(tensors):
            changed = change(*tensors[self.Q + suffix])
            del tensors[self.Q + suffix]
            if changed:
                tensors[self.Q + suffix] = changed
        self.spoil(form, message, change_tensors=apply)

    def settings(self, form, message, change):
        self.spoil(form, message, change_config=lambda config: change(
            config["quantization_config"]))

    def test_missing_parts(self):
        for form, suffix in (("fp8-block", "weight_scale_inv"), ("fp8-tensor", "weight_scale"),
                             ("ct-fp8-channel", "weight_scale"), ("ct-int8", "weight_scale"),
                             ("ct-int4", "weight_scale"), ("ct-int4", "weight_shape"),
                             ("ct-int4-zeros", "weight_zero_point"),
                             ("ct-nvfp4", "weight_scale"), ("ct-nvfp4", "weight_global_scale"),
                             ("ct-mxfp4", "weight_scale"), ("modelopt-nvfp4", "weight_scale_2"),
                             ("awq", "qzeros"), ("awq", "scales"), ("gptq", "qzeros"),
                             ("gptq", "scales")):
            self.tensors(form, suffix, f'tensor "{self.Q}{suffix}" is missing', lambda *tensor: None)

    def test_wrong_shapes(self):
        def shorter(dtype, shape, data):
            rows = shape[0]
            return dtype, [rows - 1] + shape[1:], data[:len(data) // rows * (rows - 1)]

        for form, suffix in (("fp8-block-small", "weight"), ("fp8-block-small", "weight_scale_inv"),
                             ("ct-fp8-channel", "weight_scale"), ("ct-int8", "weight"),
                             ("ct-int4", "weight_packed"), ("ct-int4", "weight_scale"),
                             ("ct-int4-zeros", "weight_zero_point"), ("ct-nvfp4", "weight_scale"),
                             ("ct-nvfp4", "weight_packed"), ("ct-mxfp4", "weight_scale"),
                             ("awq", "qweight"), ("awq", "qzeros"), ("awq", "scales"),
                             ("gptq", "qweight"), ("gptq", "qzeros"), ("gptq", "scales"),
                             ("gptq", "g_idx")):
            self.tensors(form, suffix, [f'tensor "{self.Q}{suffix}"', "has shape [", "expected ["],
                         shorter)

    def test_wrong_types(self):
        for form, suffix, dtype, expected in (
                ("fp8-block", "weight_scale_inv", "I32", "expected F32, BF16, F16 or F8_E8M0"),
                ("ct-int4", "weight_scale", "I16", "expected F32, BF16 or F16"),
                ("ct-nvfp4", "weight_scale", "U8", "expected F8_E4M3"),
                ("ct-nvfp4", "weight_global_scale", "I32", "expected F32"),
                ("gptq", "qzeros", "U32", "expected I32")):
            self.tensors(form, suffix, [f"has type {dtype}", expected],
                         lambda _, shape, data, dtype=dtype: (dtype, shape, data))

    def test_wrong_contents(self):
        self.tensors("gptq", "g_idx", ["g_idx", "holds 0 at 32, expected 1", "desc_act"],
                     lambda dtype, shape, data: (dtype, shape, bytes(len(data))))
        self.tensors("ct-int4-zeros", "weight_g_idx", ["weight_g_idx", "holds 0 at 16, expected 1"],
                     lambda dtype, shape, data: (dtype, shape, bytes(len(data))))
        self.tensors("ct-int4", "weight_shape", ["weight_shape", "holds 9 at 1, expected 64"],
                     lambda dtype, shape, data: (dtype, shape, struct.pack("<2q", 64, 9)))

    def test_surplus_parts(self):
        def add(tensors):
            tensors[self.Q + "weight_zero_point"] = ("I8", [64, 1], bytes(64))
        self.spoil("ct-int8", f'does not use: "{self.Q}weight_zero_point"', change_tensors=add)

    def test_contradictions(self):
        self.settings("fp8-block", [f'"{self.Q[:-1]}" is stored as', "lists it as not quantized"],
                      lambda settings: settings.update(modules_to_not_convert=["self_attn"]))
        self.settings("ct-int4", "lists it as not quantized",
                      lambda settings: settings.update(ignore=["re:.*q_proj"]))
        self.spoil("fp8-block", ["has type F8_E4M3", "has no quantization_config"],
                   change_config=lambda config: config.pop("quantization_config"))
        self.spoil("ct-int4", ["is stored as", "has no settings"], change_config=lambda config:
                   config.update(quantization_config=quantize.FORMATS["awq"][0]))

    def test_settings(self):
        def weights(settings):
            return settings["config_groups"]["group_0"]["weights"]

        for form, message, change in (
                ("fp8-block", 'key "quantization_config.fmt": "e5m2" is not supported',
                 lambda s: s.update(fmt="e5m2")),
                ("fp8-block", 'key "quantization_config.new_key" is not understood',
                 lambda s: s.update(new_key=1)),
                ("fp8-block", '"quantization_config.weight_block_size": expected two positive',
                 lambda s: s.update(weight_block_size=[128])),
                ("fp8-block", '"quantization_config.activation_scheme"',
                 lambda s: s.update(activation_scheme="sometimes")),
                ("fp8-block", '"hqq" is not supported; supported are fp8, compressed-tensors',
                 lambda s: s.update(quant_method="hqq")),
                ("fp8-block", '"quantization_config.quant_method"',
                 lambda s: s.pop("quant_method")),
                ("awq", "3 bits are not supported", lambda s: s.update(bits=3)),
                ("awq", '"quantization_config.version": "gemv" is not supported',
                 lambda s: s.update(version="gemv")),
                ("awq", '"quantization_config.zero_point"', lambda s: s.update(zero_point=False)),
                ("awq", "is neither a number of columns nor -1", lambda s: s.update(group_size=0)),
                ("gptq", "3 bits are not supported", lambda s: s.update(bits=3)),
                ("gptq", '"quantization_config.checkpoint_format"',
                 lambda s: s.update(checkpoint_format="marlin")),
                ("gptq", "settings for single modules",
                 lambda s: s.update(dynamic={"+:.*": {"bits": 8}})),
                ("ct-int4", "3 bits of type \"int\"", lambda s: weights(s).update(num_bits=3)),
                ("ct-int4", '"random" is not supported for weights',
                 lambda s: weights(s).update(strategy="random")),
                ("ct-int4", "actorder", lambda s: weights(s).update(actorder="group")),
                ("ct-int4", "observe_this", lambda s: weights(s).update(observe_this=1)),
                ("ct-int4", "transforms of activations",
                 lambda s: s.update(transform_config={"config_groups": {"R1": {}}})),
                ("ct-int4", "sparsity_config.format",
                 lambda s: s.update(sparsity_config={"format": "sparse-24-bitmask"})),
                ("ct-int4", "quantised results",
                 lambda s: s["config_groups"]["group_0"].update(output_activations={"num_bits": 8})),
                ("ct-int4", '"quantization_config.config_groups"',
                 lambda s: s.update(config_groups={})),
                ("ct-int4", '"quantization_config.format": "marlin-24"',
                 lambda s: s.update(format="marlin-24")),
                ("modelopt-nvfp4", '"W4A8_AWQ" is not supported',
                 lambda s: s.update(quant_algo="W4A8_AWQ")),
                ("modelopt-nvfp4", "NVFP4 has groups of 16", lambda s: s.update(group_size=32))):
            with self.subTest(form=form, message=message):
                self.settings(form, message, change)

    def test_not_a_number(self):
        checkpoint, _ = self.rewrite("fp8-block")
        header, start = read_header(checkpoint / "model.safetensors")
        data = bytearray((checkpoint / "model.safetensors").read_bytes())
        data[start + header[self.Q + "weight"]["data_offsets"][0] + 70] = 0x7f
        (checkpoint / "model.safetensors").write_bytes(data)
        self.refuse(INVALID_ARGUMENT, ['weight "layers.0.attn.qkv"', "row 1", "column 6"],
                    "sluice-compile", checkpoint, "-o", self.dir / "never.sluice", "--quiet")


if __name__ == "__main__":
    assert BIN.is_dir(), BIN
    unittest.main(verbosity=2)
