# ===- end_to_end_test.py - A checkpoint becomes an artifact and runs --------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# The references are Hugging Face transformers' results on the same checkpoints: logits, greedy
# continuations and perplexities, kept beside them.
#
# ===------------------------------------------------------------------------===#
import json
import re
import unittest

from support import (BIN, MIXTRAL, MOE_4M, SOURCE, ProgramTest, file_digests, read_tensor)

PHASES = ["input", "normalized", "quantized", "placed", "fused", "partitioned", "planned"]


class References(ProgramTest):

    def check(self, model):
        artifact = self.compile(model)
        result = self.run_program("sluice-run", artifact, "--verify", model / "golden.safetensors")
        self.assertIn("agrees with", result.stdout)
        return artifact

    def test_moe_4m(self):
        artifact = self.check(MOE_4M)
        # The comparison itself must be able to fail, with the exit code that says so.
        self.refuse(11, "by more than the tolerance", "sluice-run", artifact, "--verify",
                    MOE_4M / "golden.safetensors", "--tolerance", "1e-9")

    def test_mixtral(self):
        self.check(MIXTRAL)

    def test_logits_of_token_ids(self):
        artifact = self.compile(MIXTRAL)
        ids, _ = read_tensor(MIXTRAL / "golden.safetensors", "input_ids")
        expected, (_, tokens, vocabulary) = read_tensor(MIXTRAL / "golden.safetensors", "logits")
        for count in (1, 3, tokens):
            out = self.dir / f"{count}.safetensors"
            self.run_program("sluice-run", artifact, "--token-ids",
                             ",".join(map(str, ids[:count])), "--logits-out", out)
            logits, shape = read_tensor(out, "logits")
            self.assertEqual(shape, [count, vocabulary])
            error = max(abs(a - b) for a, b in zip(logits, expected[:count * vocabulary]))
            self.assertLess(error, 1e-3)

    def test_greedy_continuation_of_token_ids(self):
        artifact = self.compile(MIXTRAL)
        ids, _ = read_tensor(MIXTRAL / "golden.safetensors", "gen_ids")
        margins, (steps,) = read_tensor(MIXTRAL / "golden.safetensors", "gen_margin")
        sure = next((i for i, margin in enumerate(margins) if margin <= 1e-3), steps)
        self.assertGreater(sure, 4)
        prompt = ids[:-steps]
        result = self.run_program("sluice-run", artifact, "--token-ids", ",".join(map(str, prompt)),
                                  "--max-new-tokens", sure, "--ignore-eos")
        self.assertEqual(result.stdout.strip(), ",".join(map(str, ids[-steps:][:sure])))
        self.assertRegex(result.stderr, r"first token [\d.]+ ms")
        self.assertRegex(result.stderr, r"[\d.]+ tokens/s; per token p50 .* p90 .* p99 ")

    def test_weights_in_other_formats_stay_close(self):
        # bf16 weights are exact in f32; the KV cache in bf16 is not, but within a few per cent.
        self.run_program("sluice-run", self.compile(MIXTRAL, "f32.sluice", "--quantize", "f32"),
                         "--verify", MIXTRAL / "golden.safetensors")
        self.run_program("sluice-run", self.compile(MIXTRAL, "kv.sluice", "--kv-dtype", "bf16"),
                         "--verify", MIXTRAL / "golden.safetensors", "--tolerance", "0.05",
                         "--margin", "0.05")


class Text(ProgramTest):

    def test_prompt_continues_with_text(self):
        artifact = self.compile(MOE_4M)
        prompt = "static int __init "
        file = self.dir / "prompt.txt"
        file.write_text(prompt)
        flags = ["--max-new-tokens", 24, "--quiet"]
        text = self.run_program("sluice-run", artifact, "--prompt", prompt, *flags)
        again = self.run_program("sluice-run", artifact, "--prompt-file", file, *flags)
        self.assertEqual(text.stdout, again.stdout)
        self.assertGreater(len(text.stdout.strip()), 8)
        self.assertEqual(text.stderr, "")

    def test_seed_decides_the_sample(self):
        artifact = self.compile(MOE_4M)

        def sample(seed):
            return self.run_program("sluice-run", artifact, "--prompt", "Die Option ", "--quiet",
                                    "--temperature", "0.9", "--top-k", 40, "--top-p", "0.95",
                                    "--max-new-tokens", 32, "--seed", seed).stdout

        self.assertEqual(sample(7), sample(7))
        self.assertNotEqual(sample(7), sample(8))


class Perplexity(ProgramTest):

    def check(self, domain):
        reference = json.loads((SOURCE / "test/data/text/perplexity.json").read_text())
        expected = reference["moe-4m"][domain]
        result = self.run_program("sluice-run", self.compile(MOE_4M), "--quiet", "--score",
                                  SOURCE / f"test/data/text/held.{domain}.txt")
        match = re.match(r"perplexity ([\d.]+) over \d+ predictions "
                         r"\((\d+) windows of 512, (\d+) tokens\)", result.stdout)
        self.assertIsNotNone(match, result.stdout)
        self.assertEqual(int(match[2]), expected["windows"])
        self.assertEqual(int(match[3]), expected["tokens"])
        self.assertAlmostEqual(float(match[1]), expected["perplexity"],
                               delta=1e-3 * expected["perplexity"])


class PerplexityC(Perplexity):

    def test_c(self):
        self.check("c")


class PerplexityGerman(Perplexity):

    def test_german(self):
        self.check("german")


class Phases(ProgramTest):

    def test_listed_phases(self):
        listed = self.run_program("sluice-compile", "--list-phases").stdout.split()
        self.assertEqual(listed, PHASES + ["artifact"])

    def test_compile_to_prints_the_dumped_module(self):
        dump = self.dir / "dump"
        self.compile(MOE_4M, "a.sluice", "--dump-phases-to", dump)
        files = [f"{number}-{phase}.mlir" for number, phase in enumerate(PHASES)]
        self.assertEqual(sorted(path.name for path in dump.iterdir()), files)
        for phase, file in zip(PHASES, files):
            printed = self.run_program("sluice-compile", MOE_4M, f"--compile-to={phase}").stdout
            self.assertEqual(printed, (dump / file).read_text(), phase)
            self.assertIn(f'moe.phase = "{phase}"', printed)

    def test_every_dump_continues_to_the_same_artifact(self):
        dump = self.dir / "dump"
        expected = file_digests(self.compile(MIXTRAL, "mixtral.sluice", "--dump-phases-to", dump))
        for file in sorted(dump.iterdir()):
            artifact = self.compile(file, "continued.sluice", f"--checkpoint={MIXTRAL}")
            digests = file_digests(artifact)
            for name in ("plan.pb", "weights/rank-0.safetensors"):
                self.assertEqual(digests[name], expected[name], f"{name} from {file.name}")

    def test_dumps_pass_through_sluice_opt(self):
        dump = self.dir / "dump"
        self.run_program("sluice-compile", MIXTRAL, "--compile-to=planned", "--dump-phases-to",
                         dump)
        for file in sorted(dump.iterdir()):
            printed = self.run_program("sluice-opt", file).stdout
            self.assertEqual(printed, file.read_text(), file)

    def test_two_runs_give_the_same_bytes(self):
        first = file_digests(self.compile(MOE_4M, "first.sluice"))
        second = file_digests(self.compile(MOE_4M, "second.sluice"))
        self.assertEqual(first, second)
        self.assertIn("SHA256SUMS", first)

    def test_synthetic_weights_need_no_checkpoint(self):
        folder = self.dir / "shape-only"
        folder.mkdir()
        (folder / "config.json").write_text((MIXTRAL / "config.json").read_text())
        artifact = self.compile(folder, "synthetic.sluice", "--weights", "synthetic")
        self.run_program("sluice-run", artifact, "--token-ids", "1,2,3", "--max-new-tokens", 4)


class Packing(ProgramTest):

    def test_arena_is_within_five_per_cent_of_the_live_bytes(self):
        program = re.compile(r"plan\.program @\w+ tokens (\d+) arena (\d+) live (\d+) \{")
        launch = re.compile(r"plan\.cmd\.launch @\w+\((.*?)\) stream")
        for model in (MOE_4M, MIXTRAL):
            text = self.run_program("sluice-compile", model, "--compile-to=planned").stdout
            slab = int(re.search(r"plan\.slab +arena bytes (\d+)", text)[1])
            buckets, highest = 0, 0
            for part in text.split("plan.program ")[1:]:
                tokens, arena, live = map(int, program.match("plan.program " + part).groups())
                self.assertLessEqual(arena, 1.05 * live, f"{model.name}, bucket {tokens}")
                self.assertLessEqual(arena, slab)
                # The packing reads as offsets: the launches use the arena up to its stated size.
                ends = [int(offset) + int(length)
                        for arguments in launch.findall(part)
                        for offset, length in re.findall(r"arena\[(\d+) for (\d+)\]", arguments)]
                self.assertTrue(ends)
                self.assertLessEqual(max(ends), arena)
                self.assertGreater(max(ends), arena - 256)
                buckets, highest = buckets + 1, max(highest, arena)
            self.assertGreaterEqual(buckets, 4)
            self.assertEqual(highest, slab)

    def test_inspect_shows_the_packing(self):
        artifact = self.compile(MIXTRAL)
        summary = self.run_program("sluice-inspect", artifact).stdout
        self.assertIn("every hash verified", summary)
        report = json.loads((artifact / "report.json").read_text())
        for bucket in report["ranks"][0]["buckets"]:
            self.assertRegex(summary, rf"(?m)^  {bucket['tokens']} +{bucket['launches']} ")
        plan = self.run_program("sluice-inspect", artifact, "--plan", "--bucket", 8).stdout
        self.assertIn("program rank 0 tokens 8\n", plan)
        self.assertNotIn("tokens 1\n", plan)
        self.assertRegex(plan, r"layers\.0\.experts\.down .* arena\[\d+ for \d+\]")
        weights = self.run_program("sluice-inspect", artifact, "--weights").stdout
        self.assertRegex(weights, r"layers\.1\.experts\.gate_up")


if __name__ == "__main__":
    assert BIN.is_dir(), BIN
    unittest.main(verbosity=2)
