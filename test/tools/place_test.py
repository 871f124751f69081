# ===- place_test.py - sluice-place and sluice-profile as their users see them ===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# ===------------------------------------------------------------------------===#
import array
import json
import math
import random
import re
import struct
import unittest

from support import DATA_CORRUPT, INVALID_ARGUMENT, MOE_4M, NOT_FOUND, RESOURCE_EXHAUSTED, SOURCE
from support import ProgramTest, read_header

LAYERS, EXPERTS = 4, 24


class ProfileTest(ProgramTest):
    """Three profiles of one model in the scratch folder."""

    def setUp(self):
        super().setUp()
        generator = random.Random(5)
        base = [[math.exp(0.8 * generator.gauss(0, 1)) for _ in range(EXPERTS)]
                for _ in range(LAYERS)]
        self.profiles, self.counts = [], []
        for number in range(3):
            rows = [[int(1000 * load * math.exp(0.3 * generator.gauss(0, 1))) for load in row]
                    for row in base]
            rows[0] = [0] * EXPERTS  # a dense layer
            self.counts.append(rows)
            self.profiles.append(self.write(f"p{number}.json", {"logical_count": rows}))

    def write(self, name, document):
        path = self.dir / name
        path.write_text(json.dumps(document))
        return path


class Place(ProfileTest):

    def place(self, *args, profiles=None, **kwargs):
        output = self.dir / "placement"
        result = self.run_program("sluice-place", *(profiles or self.profiles), "-o", output, *args,
                                  **kwargs)
        return output.read_text(), result

    def check_map(self, rows, sizes):
        self.assertEqual(len(rows), LAYERS)
        for row in rows:
            self.assertEqual(len(row), sum(sizes))
            self.assertEqual(set(row), set(range(EXPERTS)))
            start = 0
            for size in sizes:
                device = row[start:start + size]
                self.assertEqual(len(set(device)), size, "two copies on one device")
                start += size

    def imbalance(self, row, loads, devices):
        per = len(row) // devices
        shares = [sum(loads[e] / row.count(e) for e in row[d * per:(d + 1) * per])
                  for d in range(devices)]
        return max(shares) * devices / sum(shares)

    def test_sglang_map(self):
        text, result = self.place("--devices=4", "--slots=28")
        document = json.loads(text)
        self.assertEqual(list(document), ["physical_to_logical_map"])
        rows = document["physical_to_logical_map"]
        self.check_map(rows, [7] * 4)
        self.assertEqual(rows[0], [s % EXPERTS for s in range(28)])
        self.assertIn("3 of 4 layers placed", result.stdout)
        mean = sum(self.imbalance(rows[l], counts[l], 4) for counts in self.counts
                   for l in range(1, LAYERS)) / 9
        told = float(re.search(r"over the mean: ([\d.]+)", result.stdout)[1])
        self.assertAlmostEqual(mean, told, delta=1e-4)
        self.assertLess(mean, 1.1)
        self.assertEqual(text, self.place("--devices=4", "--slots=28", "--threads=1")[0])

    def test_slots_that_do_not_divide(self):
        document = json.loads(self.place("--devices=5", "--slots=28")[0])
        self.assertEqual(document["slots_per_device"], [6, 6, 6, 5, 5])
        self.check_map(document["physical_to_logical_map"], [6, 6, 6, 5, 5])
        self.refuse(INVALID_ARGUMENT, "28 slots on 5 devices", "sluice-place", *self.profiles, "-o",
                    "x", "--devices=5", "--slots=28", "--format=trtllm")

    def test_other_formats(self):
        text, _ = self.place("--devices=4", "--slots=28", "--format=trtllm")
        self.assertRegex(text, r"^num_slots: 28\ninitial_global_assignments:\n  1: \[")
        self.assertTrue(text.endswith("\nlayer_updates_per_iter: 0\n"))
        text, _ = self.place("--devices=4", "--slots=28", "--format=sluice")
        self.check_map([sum(layer, []) for layer in json.loads(text)["layers"]], [7] * 4)

    def test_initial_placement_and_its_price(self):
        text, _ = self.place("--devices=4", "--slots=28", profiles=self.profiles[:1])
        (self.dir / "initial.json").write_text(text)
        moved = []
        for weight in ("0", "0.01", "100"):
            _, result = self.place("--devices=4", "--slots=28", "--initial=initial.json",
                                   f"--migration-weight={weight}")
            moved.append(int(re.search(r"to be moved: (\d+)", result.stdout)[1]))
        self.assertEqual(moved[2], 0)
        self.assertGreater(moved[0], moved[1])
        self.assertGreater(moved[1], 0)
        self.refuse(DATA_CORRUPT, "two copies", "sluice-place", *self.profiles, "-o", "x",
                    "--devices=1", "--slots=24", "--initial=initial.json")

    def test_nodes_and_memory(self):
        document = json.loads(self.place("--devices=4", "--slots=28", "--nodes=2",
                                         "--slots-per-device=7")[0])
        for row in document["physical_to_logical_map"][1:]:
            for expert in range(EXPERTS):
                if row.count(expert) == 2:
                    self.assertLess(row.index(expert), 14)
                    self.assertGreaterEqual(27 - row[::-1].index(expert), 14)
        self.refuse(RESOURCE_EXHAUSTED, "at most 24 of the 28 slots", "sluice-place",
                    *self.profiles, "-o", "x", "--devices=4", "--slots=28", "--slots-per-device=6")

    def test_decode(self):
        text, _ = self.place("--devices=4", "--slots=28", "--phase=decode",
                             profiles=[self.with_top_k(self.profiles[0])])
        self.check_map(json.loads(text)["physical_to_logical_map"], [7] * 4)
        self.refuse(INVALID_ARGUMENT, "without traces the decode objective needs it",
                    "sluice-place", self.profiles[0], "-o", "x", "--devices=4", "--slots=28",
                    "--phase=decode")

    def with_top_k(self, profile):
        output = self.dir / "imported.safetensors"
        self.run_program("sluice-profile", "import", profile, "--top-k=4", "-o", output)
        return output

    def test_impossible_requests(self):
        def refuse(message, *args, code=INVALID_ARGUMENT, profiles=self.profiles):
            self.refuse(code, message, "sluice-place", *profiles, "-o", "out.json", *args)
            self.assertFalse((self.dir / "out.json").exists())

        refuse("both must be positive", "--devices=4", "--slots=0")
        refuse("both must be positive", "--devices=-1", "--slots=24")
        refuse("slots = 20 is below the number of experts 24", "--devices=4", "--slots=20")
        refuse("--devices=30 exceeds --slots=28", "--devices=30", "--slots=28")
        refuse("exceeds experts x devices = 48", "--devices=2", "--slots=50")
        refuse("--nodes=3 does not divide", "--devices=4", "--slots=24", "--nodes=3")
        refuse("known are prefill and decode", "--devices=4", "--slots=24", "--phase=both")
        refuse("known are sglang", "--devices=4", "--slots=24", "--format=vllm")
        good = ("--devices=4", "--slots=24")
        refuse("none.json", *good, code=NOT_FOUND, profiles=["none.json"])
        negative = self.write("n.json", {"logical_count": [[1, -1]]})
        refuse("layer 0, expert 1: the count is negative", *good, code=DATA_CORRUPT,
               profiles=[negative])
        nan = self.dir / "nan.json"
        nan.write_text('{"logical_count": [[1, NaN]]}')
        refuse("nan.json: line 1", *good, code=DATA_CORRUPT, profiles=[nan])
        other = self.write("o.json", {"logical_count": [[1] * 16] * LAYERS})
        refuse("is a profile of another model than", *good, profiles=[self.profiles[0], other])
        fewer = self.write("f.json", {"logical_count": [[1] * EXPERTS] * 2})
        refuse("layers 2 against 4", *good, profiles=[self.profiles[0], fewer])
        self.write("initial.json", {"physical_to_logical_map": [list(range(EXPERTS))]})
        refuse("the initial placement has 1 layers and the profile 4", *good,
               "--initial=initial.json")

    def test_nan_in_our_format(self):
        path = self.dir / "nan.safetensors"
        header = json.dumps({"__metadata__": {"format": "sluice-profile-1"}, "counts": {
            "dtype": "F64", "shape": [1, 1, 2], "data_offsets": [0, 16]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header +
                         struct.pack("<2d", 1, float("nan")))
        self.refuse(DATA_CORRUPT, "expert 1: the count is not a finite number", "sluice-place", path,
                    "-o", "x", "--devices=1", "--slots=2")


class Profiles(ProfileTest):
    """sluice-profile on the same profiles."""

    def test_merge_inspect_compare(self):
        merged = self.dir / "merged"
        self.run_program("sluice-profile", "merge", *self.profiles, "-o", merged, "--model=toy")
        header, start = read_header(merged)
        self.assertEqual(header["counts"]["shape"], [3, LAYERS, EXPERTS])
        self.assertEqual(header["__metadata__"]["model"], "toy")
        counts = array.array("d", merged.read_bytes()[start:start + 8 * 3 * LAYERS * EXPERTS])
        self.assertEqual(list(counts), [c for rows in self.counts for row in rows for c in row])

        lines = self.run_program("sluice-profile", "inspect", merged).stdout.splitlines()
        self.assertIn("3 windows", lines[0])
        self.assertEqual(lines[1], "3 of 4 layers route tokens")
        total = [sum(rows[1][e] for rows in self.counts) for e in range(EXPERTS)]
        self.assertAlmostEqual(float(lines[3].split()[1]), max(total) * EXPERTS / sum(total),
                               delta=1e-3)

        same = self.run_program("sluice-profile", "compare", merged, merged, "--devices=4")
        self.assertRegex(same.stdout, r"\nmean +0\.0000 +1\.0000 ")
        drift = self.run_program("sluice-profile", "compare", *self.profiles[:2], "--devices=4")
        a, b = (rows[1] for rows in self.counts[:2])
        expected = sum(abs(x / sum(a) - y / sum(b)) for x, y in zip(a, b)) / 2
        row = next(line for line in drift.stdout.splitlines() if line.startswith("1 "))
        self.assertAlmostEqual(float(row.split()[1]), expected, delta=1e-4)

    def test_recorder_dump(self):
        source = SOURCE / "test/runtime/profile/recorder.pt"
        self.run_program("sluice-profile", "import", source, "-o", "p")
        self.assertEqual(read_header(self.dir / "p")[0]["counts"]["shape"], [2, 3, 4])

    def test_flags_are_documented(self):
        text = (SOURCE / "docs/cli.md").read_text().split("\n## sluice-profile\n")[1]
        text = text.split("\n## ")[0]
        documented = set(re.findall(r"(?<![\w-])--[a-z][\w-]*[a-z]", text))
        flags = set()
        for command in ("record", "import", "merge", "inspect", "compare"):
            self.assertIn(command, text)
            help_text = self.run_program("sluice-profile", command, "--help").stdout
            flags |= set(re.findall(r"(?m)^ +(?:-\w,)?(--[a-z-]+)", help_text))
        self.assertEqual(flags - {"--help"}, documented)

    def test_bad_arguments(self):
        self.refuse(INVALID_ARGUMENT, "", "sluice-profile")
        self.refuse(INVALID_ARGUMENT, "", "sluice-profile", "compare", self.profiles[0])
        self.refuse(NOT_FOUND, "none", "sluice-profile", "inspect", "none")
        self.refuse(INVALID_ARGUMENT, "another model", "sluice-profile", "merge", self.profiles[0],
                    self.write("o.json", {"logical_count": [[1] * 16] * LAYERS}), "-o", "x")
        self.refuse(NOT_FOUND, "no/such/folder", "sluice-profile", "merge", self.profiles[0], "-o",
                    "no/such/folder/p")


class Record(ProgramTest):

    def test_what_the_routers_chose(self):
        text = (SOURCE / "test/data/text/held.c.txt").read_text()[:6000]
        for name in ("c", "again"):
            (self.dir / f"{name}.txt").write_text(text if name == "c" else text[:3000])
        one = self.compile(MOE_4M, "one.sluice")
        groups = self.compile(MOE_4M, "groups.sluice", "--ranks=2", "--ep=2")
        for artifact, output in ((one, "p1"), (groups, "p2")):
            result = self.run_program("sluice-profile", "record", artifact, "c.txt", "again.txt",
                                      "-o", output, "--window=256")
            self.assertIn("4 layers, 16 experts, top-2, 2 windows", result.stdout)
        header, start = read_header(self.dir / "p1")
        data = (self.dir / "p1").read_bytes()[start:]
        tokens = header["ids.c"]["shape"][0]
        self.assertEqual(header["ids.c"]["shape"][1:], [4, 2])
        first, last = header["ids.c"]["data_offsets"]
        ids = array.array("H", data[first:last])
        counts = array.array("d", data[slice(*header["counts"]["data_offsets"])])
        for layer in range(4):
            chosen = [ids[(t * 4 + layer) * 2 + k] for t in range(tokens) for k in range(2)]
            self.assertEqual([chosen.count(e) for e in range(16)],
                             list(counts[layer * 16:(layer + 1) * 16]))
        # The same text at the start of a context chooses the same experts, on any plan.
        again, _ = header["ids.again"]["data_offsets"]
        size = 2 * 4 * 2 * 256
        self.assertEqual(data[first:first + size], data[again:again + size])
        other, other_start = read_header(self.dir / "p2")
        other_first, _ = other["ids.c"]["data_offsets"]
        self.assertEqual(data[first:last], (self.dir / "p2").read_bytes()[
            other_start + other_first:other_start + other_first + last - first])

        self.run_program("sluice-place", "p1", "--devices=4", "--slots=20", "--phase=decode", "-o",
                         "placement")
        self.refuse(INVALID_ARGUMENT, "hold no tokens", "sluice-profile", "record", one,
                    self.empty(), "-o", "p3")

    def empty(self):
        path = self.dir / "empty.txt"
        path.write_text("")
        return path


if __name__ == "__main__":
    unittest.main(verbosity=2)
