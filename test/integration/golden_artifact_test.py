# ===- golden_artifact_test.py - Artifacts of released versions stay loadable ===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Compiler and runtime change together and their own tests with them; only files that an older
# compiler wrote show that the format itself has not moved.
#
# ===------------------------------------------------------------------------===#
import shutil
import subprocess
import unittest

from support import MIXTRAL, SOURCE, ProgramTest

ARTIFACT = SOURCE / "test/data/artifact-v1/mixtral.sluice"


class Version1(ProgramTest):

    def test_loads_and_agrees_with_its_reference(self):
        golden = MIXTRAL / "golden.safetensors"
        result = self.run_program("sluice-run", ARTIFACT, "--verify", golden)
        self.assertIn("agrees with", result.stdout)

    def test_inspect_reads_all_of_it(self):
        result = self.run_program("sluice-inspect", ARTIFACT, "--plan", "--weights")
        self.assertIn("plan 1.0 by sluice-compile 0.1.0 for host, every hash verified",
                      result.stdout)
        self.assertIn("layers.1.experts.down", result.stdout)

    def test_sha256sum_agrees(self):
        program = shutil.which("sha256sum")
        self.assertIsNotNone(program)
        subprocess.run([program, "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=ARTIFACT,
                       check=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
