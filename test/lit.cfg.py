# Configuration of the lit tests: every .mlir file below test/ is one test, run by the commands in
# its RUN lines. FileCheck always runs with --enable-var-scope, so that a name bound in one function
# cannot satisfy a check in the next.

import os

import lit.formats

config.name = "sluice"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.excludes = ["data", "golden", "inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.sluice_binary_dir, "test")

# Tests name programs, never paths: ours from build/bin, FileCheck and not from LLVM.
config.environment["PATH"] = os.path.pathsep.join(
    [config.sluice_tools_dir, config.llvm_tools_dir, config.environment.get("PATH", "")]
)
config.environment["FILECHECK_OPTS"] = "--enable-var-scope --dump-input-filter=error"
config.substitutions.append(("%sluice_src", config.sluice_source_dir))

# Optional parts a test may ask for with `REQUIRES:`.
if os.path.exists(os.path.join(config.sluice_tools_dir, "sluice-compile")):
    config.available_features.add("sluice-compile")
