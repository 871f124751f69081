# ===- bad_input_test.py - Refusals, each with its exit code -----------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Every case is a sound input spoiled in one place. A refusal has the documented exit code, says on
# stderr what was found where, and leaves nothing behind; a crash would show as a signal instead.
#
# ===------------------------------------------------------------------------===#
import json
import os
import shutil
import struct
import subprocess
import unittest

from support import (BIN, DATA_CORRUPT, INVALID_ARGUMENT, IO, MIXTRAL, MOE_4M, NOT_FOUND, OK,
                     RESOURCE_EXHAUSTED, UNSUPPORTED, VERSION_MISMATCH, ProgramTest, read_header,
                     write_manifest)

EXPERT = "model.layers.1.block_sparse_moe.experts.5.w2.weight"


class Checkpoints(ProgramTest):
    """sluice-compile on a copy of golden/mixtral that is spoiled in one place."""

    def setUp(self):
        super().setUp()
        self.model = self.dir / "mixtral"
        shutil.copytree(MIXTRAL, self.model)
        self.weights = self.model / "model.safetensors"

    def refuse_model(self, *messages, code=INVALID_ARGUMENT, flags=()):
        result = self.refuse(code, messages, "sluice-compile", self.model, "-o", "x.sluice", *flags)
        # Diagnostics are lines for people: no module, no operation is printed into them.
        self.assertNotIn("see current operation", result.stderr)
        self.assertLess(len(result.stderr), 2000)
        self.assertEqual([p.name for p in self.dir.iterdir() if "sluice" in p.name], [])

    def change_config(self, **changes):
        path = self.model / "config.json"
        config = json.loads(path.read_text())
        for key, value in changes.items():
            if value is KeyError:
                del config[key]
            else:
                config[key] = value
        path.write_text(json.dumps(config))

    def change_header(self, change):
        """Rewrites the header with `change` applied to it; the data stays."""
        header, start = read_header(self.weights)
        data = self.weights.read_bytes()[start:]
        change(header)
        text = json.dumps(header).encode()
        self.weights.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def test_sound_copy_compiles(self):
        self.run_program("sluice-compile", self.model, "-o", "x.sluice")

    def test_missing_model(self):
        self.model = self.dir / "nothing-here"
        self.refuse_model("nothing-here", "does not exist")

    def test_file_instead_of_folder(self):
        self.model = self.weights
        self.refuse_model("model.safetensors", "is not a folder")

    def test_missing_config(self):
        (self.model / "config.json").unlink()
        self.refuse_model("config.json")

    def test_config_that_is_no_json(self):
        for text in ("", "{", '{"model_type": "mixtral",}', "[1, 2]", '"mixtral"', "\x00\xff"):
            (self.model / "config.json").write_bytes(text.encode("latin-1"))
            self.refuse_model("config.json")

    def test_folder_instead_of_config(self):
        (self.model / "config.json").unlink()
        (self.model / "config.json").mkdir()
        self.refuse_model("config.json")

    def test_unknown_architecture(self):
        self.change_config(architectures=["GalacticForCausalLM"], model_type="galactic")
        self.refuse_model("config.json", "GalacticForCausalLM", "MixtralForCausalLM")

    def test_missing_key(self):
        for key in ("hidden_size", "num_local_experts", "rms_norm_eps", "vocab_size"):
            shutil.copy(MIXTRAL / "config.json", self.model)
            self.change_config(**{key: KeyError})
            self.refuse_model("config.json", f'"{key}"')

    def test_key_of_another_type(self):
        self.change_config(hidden_size="64")
        self.refuse_model("config.json", '"hidden_size"')

    def test_values_out_of_range(self):
        for key, value in (("hidden_size", 0), ("num_hidden_layers", -2),
                           ("num_experts_per_tok", 9), ("num_key_value_heads", 3),
                           ("vocab_size", 1 << 40), ("rms_norm_eps", -1.0)):
            shutil.copy(MIXTRAL / "config.json", self.model)
            self.change_config(**{key: value})
            self.refuse_model(key)

    def test_unsupported_activation(self):
        self.change_config(hidden_act="quick_gelu_2")
        self.refuse_model("hidden_act", "quick_gelu_2")

    def test_unsupported_rope_type(self):
        self.change_config(rope_parameters={"rope_theta": 1e6, "rope_type": "spiral"})
        self.refuse_model("config.json", "spiral")

    def test_missing_tensor(self):
        # The last one in the file, so that its bytes can go too: a hole would be refused as such.
        header, start = read_header(self.weights)
        del header["__metadata__"]
        name, entry = max(header.items(), key=lambda item: item[1]["data_offsets"])
        with open(self.weights, "r+b") as file:
            file.truncate(start + entry["data_offsets"][0])
        self.change_header(lambda header: header.pop(name))
        self.refuse_model(name)

    def test_extra_tensor(self):
        def add(header):
            header["model.layers.1.mystery.weight"] = header["model.norm.weight"]
            del header["model.norm.weight"]
        self.change_header(add)
        self.refuse_model("model.norm.weight")
        shutil.copy(MIXTRAL / "model.safetensors", self.weights)
        self.change_header(lambda header: header.update({"model.mystery.weight": {
            "dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}}))
        self.refuse_model("model.mystery.weight")

    def test_misshaped_tensor(self):
        self.change_header(lambda header: header[EXPERT].update(shape=[96, 64]))
        self.refuse_model(EXPERT, "64", "96")

    def test_missing_weights(self):
        self.weights.unlink()
        self.refuse_model("safetensors")

    def test_folder_instead_of_weights(self):
        self.weights.unlink()
        self.weights.mkdir()
        self.refuse_model("model.safetensors")

    def test_truncated_weights(self):
        whole = self.weights.read_bytes()
        header_end = read_header(MIXTRAL / "model.safetensors")[1]
        for length in (0, 4, 8, 9, header_end - 1, header_end, len(whole) - 1):
            self.weights.write_bytes(whole[:length])
            self.refuse_model("model.safetensors")

    def test_weights_with_bytes_to_spare(self):
        with open(self.weights, "ab") as file:
            file.write(b"\0" * 64)
        self.refuse_model("model.safetensors")

    def test_header_length_that_lies(self):
        whole = self.weights.read_bytes()
        for length in (0, 1, len(whole), 1 << 40, (1 << 64) - 1, (1 << 64) - 8):
            self.weights.write_bytes(struct.pack("<Q", length) + whole[8:])
            self.refuse_model("model.safetensors")

    def test_header_that_is_no_json(self):
        for text in (b"{", b"[]", b'{"a": 1}', b'{"a": {"dtype": "BF16"}}', b"\xff" * 64,
                     b"[" * 100000):
            self.weights.write_bytes(struct.pack("<Q", len(text)) + text)
            self.refuse_model("model.safetensors")

    def test_unknown_element_type(self):
        self.change_header(lambda header: header[EXPERT].update(dtype="BF17"))
        self.refuse_model(EXPERT, "BF17")

    def test_offsets_that_lie(self):
        size = self.weights.stat().st_size
        whole = self.weights.read_bytes()
        header, _ = read_header(self.weights)
        first, last = header[EXPERT]["data_offsets"]
        length = last - first
        for offsets in ([first - length, first], [first - 16, last - 16],  # overlap
                        [size, size + length], [1 << 62, (1 << 62) + length],  # outside
                        [last, first], [first, last - 2], [-length, 0],
                        [first + 0.5, last], [first], "0"):
            self.weights.write_bytes(whole)
            self.change_header(lambda header: header[EXPERT].update(data_offsets=offsets))
            self.refuse_model("model.safetensors")

    def test_shape_whose_size_overflows(self):
        for shape in ([1 << 32, 1 << 32], [1 << 63, 2], [-64, -96], [64, 96.0, 1], "64x96"):
            shutil.copy(MIXTRAL / "model.safetensors", self.weights)
            self.change_header(lambda header: header[EXPERT].update(shape=shape))
            self.refuse_model("model.safetensors")

    def write_index(self, weight_map):
        (self.model / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map}))

    def shard(self):
        """The same checkpoint under its sharded name; returns its weight map."""
        name = "model-00001-of-00001.safetensors"
        self.weights.rename(self.model / name)
        header, _ = read_header(self.model / name)
        return {tensor: name for tensor in header if tensor != "__metadata__"}

    def test_sharded_copy_compiles(self):
        self.write_index(self.shard())
        self.run_program("sluice-compile", self.model, "-o", "x.sluice")

    def test_missing_shard(self):
        weight_map = self.shard()
        weight_map[EXPERT] = "model-00002-of-00002.safetensors"
        self.write_index(weight_map)
        self.refuse_model("model-00002-of-00002.safetensors")

    def test_index_names_a_tensor_that_its_shard_lacks(self):
        weight_map = self.shard()
        weight_map["model.layers.7.norm.weight"] = weight_map[EXPERT]
        self.write_index(weight_map)
        self.refuse_model("model.layers.7.norm.weight")

    def test_index_that_leaves_its_folder(self):
        weight_map = self.shard()
        weight_map[EXPERT] = "../mixtral/model-00001-of-00001.safetensors"
        self.write_index(weight_map)
        self.refuse_model("model.safetensors.index.json", "../mixtral")

    def test_index_that_is_no_json(self):
        self.shard()
        for text in ("{", "[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}"):
            (self.model / "model.safetensors.index.json").write_text(text)
            self.refuse_model("model.safetensors.index.json")

    def test_module_that_is_no_mlir(self):
        self.model = self.dir / "broken.mlir"
        for text in ("module {", "not mlir", 'moe.nothing', "\xff\xfe"):
            self.model.write_bytes(text.encode("latin-1"))
            self.refuse_model("broken.mlir")

    def test_module_without_its_weights(self):
        text = self.run_program("sluice-compile", MIXTRAL, "--compile-to=fused").stdout
        self.model = self.dir / "fused.mlir"
        self.model.write_text(text)
        result = self.run_program("sluice-compile", self.model, "-o", "x.sluice",
                                  code=NOT_FOUND)
        self.assertIn("--checkpoint", result.stderr)
        self.assertFalse((self.dir / "x.sluice").exists())


class UnreadableFile(ProgramTest):

    @unittest.skipIf(os.geteuid() == 0, "root reads every file")
    def test_weights(self):
        model = self.dir / "mixtral"
        shutil.copytree(MIXTRAL, model)
        (model / "model.safetensors").chmod(0)
        self.refuse(INVALID_ARGUMENT, ["model.safetensors", "Permission denied"], "sluice-compile",
                    model, "-o", "x.sluice")


class CompileArguments(ProgramTest):

    def refuse_flags(self, messages, *flags, code=INVALID_ARGUMENT):
        result = self.refuse(code, messages, "sluice-compile", *flags)
        self.assertNotIn("see current operation", result.stderr)
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_flags(self):
        self.refuse_flags(["--bogus", "sluice-compile --help"], "--bogus")
        self.refuse_flags("no model")
        self.refuse_flags("no output", MIXTRAL)
        self.refuse_flags(['"zzz"', "normalized, quantized"], MIXTRAL, "--compile-to=zzz")
        self.refuse_flags("int2", MIXTRAL, "-o", "x.sluice", "--quantize", "int2")
        self.refuse_flags("i8", MIXTRAL, "-o", "x.sluice", "--kv-dtype", "i8")
        self.refuse_flags(['"abacus"', "host"], MIXTRAL, "-o", "x.sluice", "--target", "abacus")
        self.refuse_flags("no kernels in this build", MIXTRAL, "-o", "x.sluice", "--target", "h100",
                          code=UNSUPPORTED)

    def test_limits(self):
        self.refuse_flags("--max-seqs", MIXTRAL, "-o", "x.sluice", "--max-seqs", -3)
        self.refuse_flags("--max-seqs", MIXTRAL, "-o", "x.sluice", "--max-seqs", "many")
        self.refuse_flags(["max-seq-len = 100000", "512"], MIXTRAL, "-o", "x.sluice",
                          "--max-seq-len", 100000)
        self.refuse_flags("bucket 4 follows 8", MIXTRAL, "-o", "x.sluice", "--buckets", "8,4")

    def test_output_that_is_something_else(self):
        taken = self.dir / "taken"
        taken.mkdir()
        (taken / "notes.txt").write_text("mine")
        for output in (taken, taken / "notes.txt"):
            self.refuse(INVALID_ARGUMENT, [output.name, "remove it or choose another name"],
                        "sluice-compile", MIXTRAL, "-o", output)
        self.assertEqual((taken / "notes.txt").read_text(), "mine")
        self.assertEqual([path.name for path in self.dir.iterdir()], ["taken"])

    def test_output_in_a_folder_that_is_not_there(self):
        self.refuse_flags("nowhere/x.sluice", MIXTRAL, "-o", "nowhere/x.sluice", code=NOT_FOUND)

    def test_dump_folder_that_cannot_be(self):
        self.refuse_flags("config.json/dump", MIXTRAL, "--compile-to=input", "--dump-phases-to",
                          MIXTRAL / "config.json/dump", code=IO)


class RunArguments(ProgramTest):

    def test_flags(self):
        artifact = self.compile(MIXTRAL)
        for messages, flags in (
            ("artifact is required", []),
            ("--bogus", [artifact, "--token-ids", "1", "--bogus"]),
            ("Exactly 1 option", [artifact]),
            ("Exactly 1 option", [artifact, "--prompt", "a", "--token-ids", "1"]),
            ("--max-new-tokens", [artifact, "--token-ids", "1", "--max-new-tokens", 0]),
            ("--temperature", [artifact, "--token-ids", "1", "--temperature", "-1"]),
            ("--top-p", [artifact, "--token-ids", "1", "--top-p", "1.5"]),
            ("top-p is 0", [artifact, "--token-ids", "1", "--top-p", "0"]),
            ("--threads", [artifact, "--token-ids", "1", "--threads", "-2"]),
            ("another model", [artifact, "--verify", MOE_4M / "golden.safetensors"]),
        ):
            self.refuse(INVALID_ARGUMENT, messages, "sluice-run", *flags)
        self.refuse(UNSUPPORTED, ['"abacus"', "host"], "sluice-run", artifact, "--token-ids", "1",
                    "--device", "abacus")

    def test_token_ids(self):
        artifact = self.compile(MIXTRAL)
        for messages, ids in (
            (["token id 128", "[0, 127]"], "3,128"),
            (["token id -1", "[0, 127]"], "-1"),
            (["token id -5", "[0, 127]"], "1,2,-5"),
            ("expected numbers separated by commas", "1,,2"),
            ("expected numbers separated by commas", "1,x"),
            ("expected numbers separated by commas", "1.5"),
            ("expected numbers separated by commas", "99999999999"),
            ("prompt is empty", ""),
        ):
            self.refuse(INVALID_ARGUMENT, messages, "sluice-run", artifact, "--token-ids", ids)
            self.refuse(INVALID_ARGUMENT, [], "sluice-run", artifact, "--token-ids", ids,
                        "--logits-out", "logits.safetensors")
        self.assertEqual([path.name for path in self.dir.iterdir()], ["model.sluice"])

    def test_prompt_longer_than_the_plan_allows(self):
        artifact = self.compile(MIXTRAL, "short.sluice", "--max-seq-len", 24)
        for count, refused in ((23, False), (25, True), (300, True)):
            ids = ",".join(["5"] * count)
            for flags in (["--max-new-tokens", 1], ["--logits-out", "logits.safetensors"]):
                if refused:
                    self.refuse(INVALID_ARGUMENT, [f"{count} tokens", "24", "--max-seq-len"],
                                "sluice-run", artifact, "--token-ids", ids, *flags)
                else:
                    self.run_program("sluice-run", artifact, "--token-ids", ids, *flags)

    def test_empty_prompts(self):
        artifact = self.compile(MOE_4M)
        empty = self.dir / "empty.txt"
        empty.touch()
        for flags in (["--prompt", ""], ["--prompt-file", empty]):
            self.refuse(INVALID_ARGUMENT, "prompt is empty", "sluice-run", artifact, *flags)
        self.refuse(INVALID_ARGUMENT, "0 tokens", "sluice-run", artifact, "--score", empty)

    def test_files_that_are_not_there(self):
        artifact = self.compile(MIXTRAL)
        self.refuse(NOT_FOUND, ["holds no tokenizer", "--token-ids"], "sluice-run", artifact,
                    "--prompt", "hello")
        self.refuse(NOT_FOUND, "nowhere/logits", "sluice-run", artifact, "--token-ids", "1",
                    "--logits-out", "nowhere/logits.safetensors")
        self.refuse(IO, "weights", "sluice-run", artifact, "--token-ids", "1", "--logits-out",
                    artifact / "weights")
        text = self.compile(MOE_4M, "text.sluice")
        for flag in ("--prompt-file", "--score", "--verify"):
            self.refuse(NOT_FOUND, "no-file", "sluice-run", text, flag, "no-file")
        self.refuse(IO, "Is a directory", "sluice-run", text, "--prompt-file", self.dir)

    def test_artifact_that_is_none(self):
        for program, flags in (("sluice-run", ["--token-ids", "1"]), ("sluice-inspect", [])):
            self.refuse(NOT_FOUND, "nothing-here", program, "nothing-here", *flags)
            self.refuse(NOT_FOUND, "SHA256SUMS", program, MIXTRAL, *flags)
            self.refuse(DATA_CORRUPT, "config.json", program, MIXTRAL / "config.json", *flags)


class Artifacts(ProgramTest):
    """Programs that read an artifact, on one that is spoiled in one place."""

    def refuse_artifact(self, artifact, code, messages):
        for program, flags in (("sluice-run", ["--token-ids", "1"]), ("sluice-inspect", [])):
            self.refuse(code, messages, program, artifact, *flags)

    def test_flipped_byte_in_any_file(self):
        artifact = self.compile(MOE_4M)
        files = [path for path in sorted(artifact.rglob("*")) if path.is_file()]
        self.assertGreaterEqual(len(files), 6)
        for path in files:
            whole = bytearray(path.read_bytes())
            last = len(whole) - 1
            for position in sorted({0, 9, last // 3, last // 2, last}):
                spoiled = whole.copy()
                spoiled[position] ^= 1 << (position % 8)
                path.write_bytes(spoiled)
                with self.subTest(file=path.name, position=position):
                    self.refuse_artifact(artifact, DATA_CORRUPT, "")
            path.write_bytes(whole)
        self.run_program("sluice-inspect", artifact)

    def test_truncated_missing_and_extra_files(self):
        artifact = self.compile(MIXTRAL)
        for path in [path for path in sorted(artifact.rglob("*")) if path.is_file()]:
            whole = path.read_bytes()
            path.write_bytes(whole[:-1])
            self.refuse_artifact(artifact, DATA_CORRUPT, path.name)
            path.unlink()
            for program, flags in (("sluice-run", ["--token-ids", "1"]), ("sluice-inspect", [])):
                self.refuse(NOT_FOUND, path.name, program, artifact, *flags)
            path.write_bytes(whole)
        self.run_program("sluice-inspect", artifact)

    def change_plan(self, artifact, change):
        plan = bytearray((artifact / "plan.pb").read_bytes())
        (artifact / "plan.pb").write_bytes(change(plan))
        write_manifest(artifact)

    def test_newer_plan(self):
        artifact = self.compile(MIXTRAL)

        def newer(plan):
            self.assertEqual(plan[:2], b"\x08\x01")  # field 1, `major`: 1
            plan[1] = 2
            return plan

        self.change_plan(artifact, newer)
        self.refuse_artifact(artifact, VERSION_MISMATCH, ["version 2", "1"])

    def test_plans_whose_hash_is_right_but_whose_content_is_not(self):
        artifact = self.compile(MIXTRAL)
        whole = (artifact / "plan.pb").read_bytes()
        for content in (b"", b"\xff" * 100, whole[:-1], whole[:len(whole) // 2]):
            self.change_plan(artifact, lambda plan: content)
            for program, flags in (("sluice-run", ["--token-ids", "1"]), ("sluice-inspect", [])):
                result = self.run_program(program, artifact, *flags, code=DATA_CORRUPT)
                self.assertIn("plan", result.stderr)
        self.change_plan(artifact, lambda plan: whole)
        self.run_program("sluice-inspect", artifact)

    def test_changed_plans_that_nobody_checks_are_refused_or_run(self):
        # Without hashes the loader has only its own checks of every field; a wild access would end
        # the program by a signal, that is with a negative code.
        artifact = self.compile(MIXTRAL)
        whole = (artifact / "plan.pb").read_bytes()
        codes = set()
        for step in range(48):
            plan = bytearray(whole)
            plan[step * 491 % len(plan)] ^= 1 << (step % 8)
            (artifact / "plan.pb").write_bytes(plan)
            result = subprocess.run(
                [BIN / "sluice-run", artifact, "--token-ids", "1,2,3", "--max-new-tokens", "2",
                 "--quiet", "--no-verify-hashes"], capture_output=True, timeout=240)
            self.assertIn(result.returncode, (OK, INVALID_ARGUMENT, NOT_FOUND, DATA_CORRUPT,
                                              UNSUPPORTED, RESOURCE_EXHAUSTED, VERSION_MISMATCH),
                          (step, result.stderr))
            codes.add(result.returncode)
        self.assertIn(DATA_CORRUPT, codes)

    def test_manifest_that_leaves_the_folder(self):
        artifact = self.compile(MIXTRAL)
        text = (artifact / "SHA256SUMS").read_text()
        for path in ("../secret", "/etc/passwd", "weights/../../secret"):
            (artifact / "SHA256SUMS").write_text(text + "0" * 64 + f"  {path}\n")
            self.refuse_artifact(artifact, DATA_CORRUPT, "SHA256SUMS")


if __name__ == "__main__":
    unittest.main(verbosity=2)
