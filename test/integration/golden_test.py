# ===- golden_test.py - Every reference checkpoint, layer by layer -----------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Each folder of test/data/golden is a small random checkpoint of a family with what Hugging Face
# transformers computes from it in float32: logits, hidden states after every layer, a greedy
# continuation. Adding a folder adds its test. A folder is also compiled from what the same
# checkpoint looks like elsewhere: written before 2026, and in shards.
#
# ===------------------------------------------------------------------------===#
import json
import re
import struct
import unittest

from support import BIN, CHECK_FAILED, SOURCE, ProgramTest, file_digests, read_header

GOLDEN = SOURCE / "test/data/golden"


def old_keys(config):
    """The configuration in the spelling of transformers 4: rope_theta and rope_scaling, torch_dtype."""
    config = {
        key: old_keys(value) if key == "text_config" else value
        for key, value in config.items()
    }
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    rope = dict(config.pop("rope_parameters", None) or {})
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in rope:
            config[key] = rope.pop(key)
    if rope.get("rope_type", "default") != "default":
        rope["type"] = rope.pop("rope_type")
        config["rope_scaling"] = rope
    return config


def write_shards(source, folder, count):
    """The tensors of source/model.safetensors dealt out to `count` files, with their index."""
    header, start = read_header(source / "model.safetensors")
    data = (source / "model.safetensors").read_bytes()[start:]
    names = [name for name in header if name != "__metadata__"]
    weight_map = {}
    for number in range(count):
        shard, content = {}, b""
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        for name in names[number::count]:
            first, last = header[name]["data_offsets"]
            shard[name] = dict(header[name],
                               data_offsets=[len(content), len(content) + last - first])
            content += data[first:last]
            weight_map[name] = file
        text = json.dumps(shard).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + content)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}))


class Golden(ProgramTest):
    """One method for every folder, made below."""

    def verify(self, artifact, model):
        return self.run_program("sluice-run", artifact, "--verify", model / "golden.safetensors")

    def check(self, model):
        header, _ = read_header(model / "golden.safetensors")
        states = sum(name.startswith("hidden.") for name in header)
        self.assertGreater(states, 1)

        artifact = self.compile(model)
        printed = self.verify(artifact, model).stdout
        self.assertIn("agrees with", printed)
        self.assertEqual(len(re.findall(r"hidden state \d+: max \|d\|", printed)), states, printed)
        self.assertRegex(printed, r"(?m) 0 of [1-9]\d* +0 of [1-9]\d* +ok$")

        # In chunks, keys and values come from the cache, across windows and pages. The first chunk
        # is longer than the 8 positions from which LongRoPE rotates otherwise in one reference.
        chunked = self.compile(model, "chunked.sluice", "--max-batch-tokens", 9,
                               "--max-logit-rows", 9, "--max-seqs", 2)
        self.verify(chunked, model)

        # The same checkpoint in other words is the same artifact.
        respelled = self.dir / model.name
        respelled.mkdir()
        config = json.loads((model / "config.json").read_text())
        (respelled / "config.json").write_text(json.dumps(old_keys(config)))
        (respelled / "generation_config.json").write_bytes(
            (model / "generation_config.json").read_bytes())
        write_shards(model, respelled, 3)
        digests = file_digests(artifact)
        again = file_digests(self.compile(respelled, "respelled.sluice"))
        for name in ("plan.pb", "weights/rank-0.safetensors"):
            self.assertEqual(again[name], digests[name], name)


class Llama4Multimodal(ProgramTest):

    def test_text_model_beside_a_vision_model(self):
        model = GOLDEN / "llama4_text"
        header, start = read_header(model / "model.safetensors")
        data = (model / "model.safetensors").read_bytes()[start:]
        header.pop("__metadata__", None)
        header = {"language_model." + name: entry for name, entry in header.items()}
        for name in ("vision_model.patch_embedding.linear.weight",
                     "multi_modal_projector.linear_1.weight"):
            header[name] = {"dtype": "BF16", "shape": [2, 3],
                            "data_offsets": [len(data), len(data) + 12]}
            data += bytes(12)
        text = json.loads((model / "config.json").read_text())
        config = {
            "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
            "boi_token_index": 120, "eoi_token_index": 121, "image_token_index": 122,
            "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 2, "rope_theta": 10000},
            "text_config": {key: value for key, value in text.items() if key != "architectures"},
        }
        folder = self.dir / "multimodal"
        folder.mkdir()
        encoded = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(
            struct.pack("<Q", len(encoded)) + encoded + data)
        (folder / "config.json").write_text(json.dumps(config))
        artifact = self.dir / "multimodal.sluice"
        printed = self.run_program("sluice-compile", folder, "-o", artifact).stderr
        for pattern in ("vision_model.*", "multi_modal_projector.*"):
            self.assertIn(f'1 tensors "{pattern}" are left out', printed)
        self.run_program("sluice-run", artifact, "--verify", model / "golden.safetensors")


class HiddenStates(ProgramTest):

    def test_a_wrong_layer_is_found(self):
        model = GOLDEN / "mixtral"
        artifact = self.compile(model)
        data = bytearray((model / "golden.safetensors").read_bytes())
        header, start = read_header(model / "golden.safetensors")
        for state in (0, 1, 2):
            changed = bytearray(data)
            at = start + header[f"hidden.{state}"]["data_offsets"][1] - 4
            (value,) = struct.unpack_from("<f", changed, at)
            struct.pack_into("<f", changed, at, value + 0.01)
            file = self.dir / "changed.safetensors"
            file.write_bytes(changed)
            result = self.run_program("sluice-run", artifact, "--verify", file, code=CHECK_FAILED)
            self.assertRegex(result.stdout, rf"(?m)hidden state {state}: max \|d\| 0\.01$")
            self.assertIn("by more than the tolerance", result.stderr)


def add_folder(folder):
    setattr(Golden, f"test_{folder.name}", lambda self: self.check(folder))


for path in sorted(GOLDEN.iterdir()):
    add_folder(path)

if __name__ == "__main__":
    assert BIN.is_dir(), BIN
    unittest.main(verbosity=2)
