# ===- artifact_writing_test.py - Nothing half-written is ever left ----------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# An artifact appears at its destination whole or not at all, and what stood there before stays
# until then. So the writer is killed and starved at the worst moment, while weights are being
# written, and the destination looked at.
#
# ===------------------------------------------------------------------------===#
import contextlib
import os
import pathlib
import signal
import subprocess
import time
import unittest

from support import (BIN, IO, MIXTRAL, MOE_4M, OK, RESOURCE_EXHAUSTED, ProgramTest, file_digests,
                     mixtral_config, small_file_system, write_sparse_checkpoint)


def temporaries(folder):
    """What the writer keeps beside its destination while it works."""
    return [path for path in pathlib.Path(folder).iterdir() if ".sluice.tmp-" in path.name]


class KilledWriter(ProgramTest):

    def kill_while_writing(self, model, artifact):
        """Starts sluice-compile and kills it while the weights are being written."""
        compiler = subprocess.Popen([BIN / "sluice-compile", model, "-o", artifact, "--quiet"],
                                    stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while not any((path / "weights").exists() for path in temporaries(artifact.parent)):
                self.assertIsNone(compiler.poll(), "it ended before it could be killed")
                self.assertLess(time.monotonic(), deadline, "it never began to write")
                time.sleep(0.001)
        finally:
            compiler.send_signal(signal.SIGKILL)
            code = compiler.wait()
        self.assertEqual(code, -signal.SIGKILL, "it ended before it could be killed")
        self.assertEqual(len(temporaries(artifact.parent)), 1)

    def test_killed_writer_leaves_nothing_that_the_next_does_not_remove(self):
        # 400 MB of weights, so that writing takes long enough to be hit; they are not on disk.
        model = self.dir / "large"
        write_sparse_checkpoint(model, mixtral_config(
            hidden_size=512, intermediate_size=4096, num_hidden_layers=4, num_attention_heads=8,
            num_key_value_heads=2, vocab_size=1024))
        artifact = self.dir / "out/model.sluice"
        artifact.parent.mkdir()

        self.kill_while_writing(model, artifact)
        self.assertFalse(artifact.exists())
        self.run_program("sluice-compile", MIXTRAL, "-o", artifact)
        self.assertEqual(list(artifact.parent.iterdir()), [artifact])

        # An artifact that stood there before is still there, whole.
        before = file_digests(artifact)
        self.kill_while_writing(model, artifact)
        self.assertEqual(file_digests(artifact), before)
        self.run_program("sluice-inspect", artifact)
        self.run_program("sluice-compile", MOE_4M, "-o", artifact)
        self.assertEqual(list(artifact.parent.iterdir()), [artifact])
        self.assertNotEqual(file_digests(artifact), before)
        self.run_program("sluice-inspect", artifact)

    def test_writers_side_by_side_do_not_remove_each_other(self):
        artifact = self.dir / "model.sluice"
        command = [BIN / "sluice-compile", MOE_4M, "-o", artifact, "--quiet"]
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE))
                       for _ in range(4)]
            for writer in writers:
                _, errors = writer.communicate(timeout=240)
                self.assertEqual(writer.returncode, OK, errors)
        self.assertEqual(list(self.dir.iterdir()), [artifact])
        self.run_program("sluice-inspect", artifact)


class FullDisk(ProgramTest):
    """Needs root, for a file system small enough to fill."""

    def test_compile(self):
        with small_file_system(self.dir / "disk", megabytes=4) as disk:
            artifact = disk / "model.sluice"
            self.run_program("sluice-compile", MIXTRAL, "-o", artifact)
            before = file_digests(artifact)
            for destination in (artifact, disk / "other.sluice"):
                result = self.refuse(RESOURCE_EXHAUSTED, "No space left", "sluice-compile", MOE_4M,
                                     "-o", destination)
                self.assertIn(str(disk), result.stderr)
                self.assertEqual(list(disk.iterdir()), [artifact])
            self.assertEqual(file_digests(artifact), before)

    def test_logits(self):
        artifact = self.compile(MOE_4M)
        with small_file_system(self.dir / "disk", megabytes=1) as disk:
            self.refuse(RESOURCE_EXHAUSTED, "No space left", "sluice-run", artifact, "--token-ids",
                        ",".join(map(str, range(200))), "--logits-out", disk / "logits.safetensors")
            self.assertEqual(list(disk.iterdir()), [])


class FileSizeLimit(ProgramTest):
    """What a full disk is to those who cannot mount one: a limit on the size of a file."""

    def test_compile(self):
        artifact = self.dir / "model.sluice"
        command = f"trap '' XFSZ; ulimit -f 2048; exec {BIN}/sluice-compile {MOE_4M} -o {artifact}"
        result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=240)
        self.assertIn(result.returncode, (IO, RESOURCE_EXHAUSTED), result.stderr)
        self.assertIn("rank-0.safetensors", result.stderr)
        self.assertIn("File too large", result.stderr)
        self.assertEqual(list(self.dir.iterdir()), [])


class UnwritableFolder(ProgramTest):

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_compile(self):
        folder = self.dir / "closed"
        folder.mkdir()
        folder.chmod(0o500)
        self.addCleanup(folder.chmod, 0o700)
        self.refuse(IO, "Permission denied", "sluice-compile", MIXTRAL, "-o", folder / "x.sluice")


if __name__ == "__main__":
    unittest.main(verbosity=2)
