# ===- configs_test.py - Published models plan from their configuration alone -===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# examples/configs/ holds the configurations of public models as published. Each must compile to a
# plan without a checkpoint, and have as many parameters as an independent count from the
# configuration's numbers says (test/configs/count_parameters.py, which also holds it against what
# the publisher says).
#
# ===------------------------------------------------------------------------===#
import json
import re
import subprocess
import sys
import unittest

from support import SOURCE, ProgramTest

CONFIGS = SOURCE / "examples/configs"
PARAMETERS = json.loads((CONFIGS / "parameters.json").read_text())


class PublishedConfigs(ProgramTest):

    def test_counts_follow_from_the_configurations_and_match_published_ones(self):
        subprocess.run([sys.executable, "-B", SOURCE / "test/configs/count_parameters.py", "--check"],
                       check=True)


def plans(model, expected):
    def test(self):
        result = self.run_program("sluice-compile", CONFIGS / model, "--weights=synthetic",
                                  "--compile-to", "planned")
        counts = dict(re.findall(r"\b(total|active)_parameters = (\d+)", result.stdout))
        self.assertEqual({key: int(value) for key, value in counts.items()},
                         {"total": expected["total"], "active": expected["active"]})
        self.assertIn('moe.phase = "planned"', result.stdout)
    return test


for name, entry in PARAMETERS.items():
    setattr(PublishedConfigs, "test_" + re.sub(r"\W", "_", name.lower()), plans(name, entry))

if __name__ == "__main__":
    unittest.main(verbosity=2)
