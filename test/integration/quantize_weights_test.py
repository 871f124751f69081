# ===- quantize_weights_test.py - Weights that the compiler quantises --------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# What every format costs on a small trained model, within limits a little above what it was
# measured to cost: a wrong scale, code or zero point costs whole per cents. And the quality gate,
# seen from outside.
#
# ===------------------------------------------------------------------------===#
import json
import re
import unittest

from support import (CHECK_FAILED, INVALID_ARGUMENT, MOE_4M, NOT_FOUND, SOURCE, ProgramTest,
                     read_tensor)

TEXT = SOURCE / "test/data/text/held.german.txt"


class Quantized(ProgramTest):

    def setUp(self):
        super().setUp()
        self.text = self.dir / "held.txt"
        self.text.write_text(TEXT.read_text()[:24000])

    def perplexity(self, artifact):
        result = self.run_program("sluice-run", artifact, "--quiet", "--score", self.text)
        return float(re.match(r"perplexity ([\d.]+)", result.stdout)[1])

    def increase(self, flags, base):
        artifact = self.compile(MOE_4M, "rounded.sluice", *flags)
        return 100 * (self.perplexity(artifact) / base - 1)


class Formats(Quantized):
    # Per cent of perplexity.
    LIMITS = {
        "fp8-tensor": 0.8, "fp8-channel": 1.3, "fp8-block": 0.75, "int8-channel": 0.1,
        "int4-g32": 6.2, "int4-g128:experts": 6.2, "mxfp4:experts": 8.5, "nvfp4:experts": 5.3,
        "int8-channel,int4-g32:experts": 4.6,
    }

    def test_cost_of_every_format(self):
        base = self.perplexity(self.compile(MOE_4M))
        for rules, limit in self.LIMITS.items():
            with self.subTest(rules):
                increase = self.increase(["--quantize", rules], base)
                self.assertLess(abs(increase), limit)
                self.assertNotEqual(increase, 0)

    def test_fp8_activations(self):
        base = self.perplexity(self.compile(MOE_4M))
        flags = ["--quantize=fp8-block"]
        weights_only = self.increase(flags, base)
        both = self.increase([*flags, "--activations=fp8"], base)
        self.assertLess(abs(both), 0.9)
        self.assertNotEqual(both, weights_only)
        plan = self.run_program("sluice-inspect", self.dir / "rounded.sluice", "--plan").stdout
        self.assertIn("round_rows", plan)

    def test_excluded_weights_stay(self):
        artifact = self.compile(MOE_4M, "part.sluice", "--quantize=int8-channel",
                                "--quantize-exclude=layers.0.*", "--quantize-exclude=*.experts.*")
        printed = self.run_program("sluice-inspect", artifact, "--weights").stdout
        sizes = {name: int(size) for size, name in re.findall(r"\+(\d+) .* (layers\S+)", printed)}
        self.assertEqual(sizes["layers.0.attn.o"], 2 * 128 * 256)
        self.assertEqual(sizes["layers.1.attn.o"], 128 * (256 + 4))
        self.assertEqual(sizes["layers.1.experts.down"], 2 * 16 * 128 * 128)


class Ranks(Quantized):

    def logits(self, *flags):
        artifact = self.compile(MOE_4M, "ranks.sluice", *flags)
        out = self.dir / "logits.safetensors"
        ids = ",".join(str(i * 37 % 4096) for i in range(40))
        self.run_program("sluice-run", artifact, "--token-ids", ids, "--logits-out", out)
        return read_tensor(out, "logits")[0]

    def test_shares_of_codes_are_those_of_the_whole(self):
        for rules in ["mxfp4:experts", "int4-g32", "fp8-channel"]:
            whole = self.logits("--quantize", rules)
            for shape in [["--ranks=2", "--tp=2"], ["--ranks=4", "--tp=2"], ["--ranks=2", "--ep=2"]]:
                with self.subTest(f"{rules} {shape}"):
                    parts = self.logits("--quantize", rules, *shape)
                    self.assertLess(max(abs(a - b) for a, b in zip(whole, parts)), 1e-3)

    def test_shares_that_cut_blocks_are_refused(self):
        result = self.run_program(
            "sluice-compile", MOE_4M, "-o", self.dir / "cut.sluice", "--quantize=mxfp4:experts",
            "--ranks=8", "--tp=8", code=INVALID_ARGUMENT)
        self.assertIn("cuts such a block", result.stderr)
        self.assertFalse((self.dir / "cut.sluice").exists())


class Gate(Quantized):

    def gated(self, *flags, code=0):
        return self.run_program("sluice-compile", MOE_4M, "-o", self.dir / "gated.sluice", "--quiet",
                                *flags, code=code)

    def left_behind(self):
        return sorted(path.name for path in self.dir.iterdir())

    def test_passes_and_is_reported(self):
        self.gated("--quantize=mxfp4:experts", f"--quality-gate={self.text}:50")
        self.assertEqual(self.left_behind(), ["gated.sluice", "held.txt"])
        report = json.loads((self.dir / "gated.sluice/report.json").read_text())["quality"]
        self.assertEqual(report["quantize"], "mxfp4:experts")
        (text,) = report["texts"]
        self.assertEqual(text["file"], str(self.text))
        self.assertEqual(text["limit_percent"], 50)
        self.assertAlmostEqual(text["perplexity_before"], self.perplexity(self.compile(MOE_4M)),
                               delta=1e-3)
        self.assertAlmostEqual(text["perplexity_after"],
                               self.perplexity(self.dir / "gated.sluice"), delta=1e-3)

    def test_refuses_and_leaves_nothing(self):
        other = self.dir / "other.txt"
        other.write_text(self.text.read_text()[:12000])
        result = self.gated("--quantize=mxfp4", f"--quality-gate={other}:50",
                            f"--quality-gate={self.text}:0.01", code=CHECK_FAILED)
        self.assertRegex(result.stderr,
                         r'quality gate: perplexity of ".*held.txt" is [\d.]+, [\d.]+ % above the '
                         r"[\d.]+ of the model as it is; the limit is 0.01 %")
        self.assertEqual(self.left_behind(), ["held.txt", "other.txt"])

    def test_wrong_requests(self):
        for flags, code, message in [
                (["--quantize=mxfp4", f"--quality-gate={self.text}:x"], INVALID_ARGUMENT,
                 '"x" is no percentage'),
                (["--quantize=mxfp4", f"--quality-gate={self.text}:-1"], INVALID_ARGUMENT,
                 '"-1" is no percentage'),
                (["--quantize=mxfp4", "--quality-gate=:3"], INVALID_ARGUMENT, "names no text"),
                (["--quantize=mxfp4", "--quality-gate=missing.txt"], NOT_FOUND,
                 'there is no text "missing.txt"'),
                ([f"--quality-gate={self.text}"], INVALID_ARGUMENT, "nothing changes it"),
                (["--quantize=fp3"], INVALID_ARGUMENT, 'unknown weight format "fp3"'),
                (["--quantize=bf16,f16"], INVALID_ARGUMENT, "give one of them"),
        ]:
            with self.subTest(flags):
                self.assertIn(message, self.gated(*flags, code=code).stderr)
                self.assertEqual(self.left_behind(), ["held.txt"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
