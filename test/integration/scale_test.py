# ===- scale_test.py - Checkpoints much larger than memory -------------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# The compiler reads headers only until it writes weights, and those it streams. Sparse files make
# checkpoints of real shapes without their bytes. Peak memory is what the kernel says about the
# compiler's process (ru_maxrss of wait4); mapped file pages that it touched count too.
#
# ===------------------------------------------------------------------------===#
import os
import shutil
import subprocess
import unittest

from support import BIN, ProgramTest, mixtral_config, read_header, write_sparse_checkpoint

MIB = 1 << 20
GIB = 1 << 30


class Scale(ProgramTest):

    def peak_memory(self, *args):
        """Runs sluice-compile to its success; the largest resident size it had, in bytes."""
        with open(self.dir / "stdout", "wb") as out, open(self.dir / "stderr", "wb") as errors:
            process = subprocess.Popen([BIN / "sluice-compile", *map(str, args)], stdout=out,
                                       stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, (self.dir / "stderr").read_text()[-2000:])
        return usage.ru_maxrss * 1024


class PlannedMixtral8x7B(Scale):

    def test_memory(self):
        model = self.dir / "Mixtral-8x7B"
        size = write_sparse_checkpoint(model, mixtral_config())
        self.assertEqual(size, 93_405_585_408)  # total_size of the published checkpoint
        self.assertGreater(len(list(model.glob("*.safetensors"))), 10)
        peak = self.peak_memory(model, "--compile-to=planned")
        print(f"\nMixtral 8x7B to planned: {peak // MIB} MiB at most")
        self.assertLess(peak, GIB)
        text = (self.dir / "stdout").read_text()
        self.assertIn('moe.phase = "planned"', text)
        self.assertIn("total_parameters = 46702792704", text)

    def test_memory_does_not_grow_with_the_weights(self):
        # Twice the bytes in the same number of tensors: no more memory than noise.
        peaks = []
        for width in (7168, 14336):
            model = self.dir / f"width-{width}"
            write_sparse_checkpoint(model, mixtral_config(intermediate_size=width))
            peaks.append(self.peak_memory(model, "--compile-to=planned"))
        self.assertLess(peaks[1], peaks[0] + 32 * MIB)


@unittest.skipUnless(os.environ.get("SLUICE_RUN_SCALE") == "1",
                     "writes 4 GB; set SLUICE_RUN_SCALE=1 to run it")
class WrittenArtifact(Scale):

    def test_memory(self):
        free = shutil.disk_usage(self.dir).free
        if free < 6 * GIB:
            self.skipTest(f"needs 6 GiB of disk, {free / GIB:.1f} are free")
        model = self.dir / "model"
        size = write_sparse_checkpoint(model, mixtral_config(
            hidden_size=2048, intermediate_size=7168, num_hidden_layers=5, num_attention_heads=16))
        self.assertGreater(size, 3.7e9)
        artifact = self.dir / "model.sluice"
        peak = self.peak_memory(model, "-o", artifact)
        print(f"\nartifact of {size / 1e9:.2f} GB of weights: {peak // MIB} MiB at most")
        self.assertLess(peak, 2 * GIB)
        weights = artifact / "weights/rank-0.safetensors"
        self.assertGreaterEqual(weights.stat().st_size, size)
        self.assertIn("layers.4.experts.down", read_header(weights)[0])
        self.run_program("sluice-inspect", artifact)


if __name__ == "__main__":
    unittest.main(verbosity=2)
