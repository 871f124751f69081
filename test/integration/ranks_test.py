# ===- ranks_test.py - Every reference checkpoint on several ranks -----------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# The same references that a single rank must meet (golden_test.py), computed by plans over ranks:
# experts split and dealt out, attention split by heads and by sequences, and mixtures of these. Ranks
# are threads of one process; in Processes they are processes under Open MPI.
#
# ===------------------------------------------------------------------------===#
import json
import os
import shutil
import subprocess
import unittest

from support import BIN, INVALID_ARGUMENT, MOE_4M, SOURCE, ProgramTest

GOLDEN = SOURCE / "test/data/golden"

# What each stands for: whole experts on two groups; experts split; three ranks, which divide hardly
# anything; both at once with sequences dealt out; sequences and experts dealt out as far as it goes;
# experts split further.
PLANS = [
    ("--ranks=2", "--ep=2"),
    ("--ranks=2", "--tp=2"),
    ("--ranks=3", "--ep=3"),
    ("--ranks=4", "--tp=2", "--ep=2", "--dp=2"),
    ("--ranks=8", "--ep=4", "--dp=4"),
    ("--ranks=8", "--tp=4"),
]
# Width 64 in scale blocks of 32 has no four parts.
REFUSED = {("gpt_oss_mxfp4", ("--ranks=8", "--tp=4")): "cuts such a block"}


class Plans(ProgramTest):
    """One method for every folder, made below."""

    def check(self, model):
        for plan in PLANS:
            with self.subTest(plan=plan):
                if message := REFUSED.get((model.name, plan)):
                    self.refuse(INVALID_ARGUMENT, message, "sluice-compile", model, "-o",
                                self.dir / "refused.sluice", *plan)
                    continue
                artifact = self.compile(model, "ranks.sluice", *plan)
                printed = self.run_program("sluice-run", artifact, "--verify",
                                           model / "golden.safetensors").stdout
                self.assertIn("agrees with", printed)
                shutil.rmtree(artifact)
        # Replicas: every group holds one expert more than its share.
        plan = ("--ranks=4", "--ep=4", "--dp=2", f"--slots={self.num_experts(model) + 4}")
        artifact = self.compile(model, "replicas.sluice", *plan)
        self.run_program("sluice-run", artifact, "--verify", model / "golden.safetensors")

    @staticmethod
    def num_experts(model):
        config = json.loads((model / "config.json").read_text())
        config = {**config, **config.get("text_config", {}), **config.get("ffn_config", {})}
        names = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
        return next(config[name] for name in names if config.get(name))


@unittest.skipUnless(shutil.which("mpirun") and (BIN.parent / "lib/libsluice_mpi.so").exists(),
                     "no Open MPI on this machine, or built without it")
class Processes(ProgramTest):
    """The same under Open MPI, one process for each rank: one plan that has everything."""

    MPI = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
               OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_plm="isolated")

    def mpirun(self, ranks, *args, code=0):
        result = subprocess.run(["mpirun", "-n", str(ranks), BIN / "sluice-run", *map(str, args)],
                                capture_output=True, text=True, env=self.MPI, cwd=self.dir,
                                stdin=subprocess.DEVNULL, timeout=240)
        self.assertEqual(result.returncode, code, result.stdout[-2000:] + result.stderr[-4000:])
        return result

    def check(self, model):
        artifact = self.compile(model, "ranks.sluice", "--ranks=4", "--tp=2", "--ep=2", "--dp=2")
        printed = self.mpirun(4, artifact, "--verify", model / "golden.safetensors").stdout
        self.assertEqual(printed.count("agrees with"), 1, printed)

    def test_same_text_as_threads(self):
        artifact = self.compile(MOE_4M, "ranks.sluice", "--ranks=3", "--ep=3")
        args = (artifact, "--prompt", "The river", "--max-new-tokens", 16)
        self.assertEqual(self.mpirun(3, *args).stdout,
                         self.run_program("sluice-run", *args).stdout)

    def test_other_number_of_processes(self):
        artifact = self.compile(MOE_4M, "ranks.sluice", "--ranks=2", "--ep=2")
        result = self.mpirun(3, artifact, "--prompt", "x", code=INVALID_ARGUMENT)
        self.assertRegex(result.stderr, r"2 ranks.*3 processes|3 processes.*2 ranks")


def add_tests(case, folders):
    for folder in folders:
        setattr(case, f"test_{folder.name}", lambda self, model=folder: self.check(model))


add_tests(Plans, sorted(GOLDEN.iterdir()))
# A process start takes longer than a small model; families that differ in what ranks exchange.
add_tests(Processes, [GOLDEN / name for name in (
    "mixtral", "deepseek_v3", "deepseek_v3_fp8", "gpt_oss", "llama4_text", "olmoe", "qwen2_moe")])

if __name__ == "__main__":
    unittest.main()
