# ===- plan_test.py - sluice-plan as its users see it ------------------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# ===------------------------------------------------------------------------===#
import html.parser
import json
import struct
import unittest

from support import DATA_CORRUPT, INVALID_ARGUMENT, MOE_4M, NOT_FOUND, RESOURCE_EXHAUSTED, SOURCE
from support import ProgramTest

CONFIGS = SOURCE / "examples/configs"
SYNTHETIC = ("--weights", "synthetic")


class Page(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects the report that the page carries."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self):
        super().__init__(convert_charrefs=False)
        self.open, self.texts, self.ids, self.problems = [], {}, [], []

    def handle_starttag(self, tag, attributes):
        if "id" in dict(attributes):
            self.ids.append(dict(attributes)["id"])
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes).get("id")))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1][1]:
            self.texts[self.open[-1][1]] = data


class Plan(ProgramTest):

    def plan(self, model, *flags, code=0):
        result = self.run_program("sluice-plan", model, *flags, "--report", "r.json", "--html",
                                  "r.html", code=code)
        return result, json.loads((self.dir / "r.json").read_text())

    def test_a_checkpoint_on_the_host(self):
        result, report = self.plan(MOE_4M, "--ranks", 4, "--dp", 2)
        self.assertEqual(report["schema"], "sluice-plan/1")
        self.assertTrue(report["verdict"]["fits"])
        self.assertTrue(report["memory"]["exact"])
        self.assertIn("Verdict\n  fits: tp", result.stdout)
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 100)
        self.assertEqual({(p["tp"], p["ep"], p["dp"]) for p in report["parallelism"]},
                         {(1, 4, 2), (2, 2, 2), (4, 1, 2)})

    def test_a_refusal_names_what_is_missing_and_what_would_fit(self):
        result, report = self.plan(CONFIGS / "DeepSeek-V3", *SYNTHETIC, "--target", "h100x8",
                                   "--quantize", "bf16", code=RESOURCE_EXHAUSTED)
        for text in ("does not fit on 8 x NVIDIA H100", "79.2 GiB are there", "1.34 TB (bf16)",
                     "what would fit: --quantize bf16,int4-g128", "24 devices"):
            self.assertIn(text, result.stderr)
        self.assertFalse(report["verdict"]["fits"])
        self.assertEqual(len(report["verdict"]["remedies"]), 2)

    def test_the_page_is_well_formed_and_carries_the_report(self):
        _, report = self.plan(CONFIGS / "Qwen3-30B-A3B-FP8", *SYNTHETIC, "--target", "h100x8")
        page = Page()
        page.feed((self.dir / "r.html").read_text())
        page.close()
        self.assertEqual((page.problems, page.open), ([], []))
        self.assertEqual(len(page.ids), len(set(page.ids)))
        self.assertEqual(json.loads(page.texts["report"]), report)
        self.assertLessEqual({"verdict", "memory", "shapes", "curve", "loads"}, set(page.ids))
        refused = [p["refusal"] for p in report["parallelism"] if not p["feasible"]]
        self.assertTrue(any("blocks of 128 columns" in text for text in refused), refused)

    def test_equal_requests_give_equal_files(self):
        flags = (CONFIGS / "gpt-oss-20b", *SYNTHETIC, "--target", "mi300x")
        self.plan(*flags)
        first = {name: (self.dir / name).read_bytes() for name in ("r.json", "r.html")}
        self.plan(*flags)
        for name, content in first.items():
            self.assertEqual((self.dir / name).read_bytes(), content)

    def test_a_calibration_changes_times_and_nothing_else(self):
        flags = (CONFIGS / "Mixtral-8x7B-v0.1", *SYNTHETIC, "--target", "h100x8", "--tp", 2,
                 "--dp", 1)
        _, before = self.plan(*flags)
        half = before["target"]["memory_bytes_per_second"] / 2
        (self.dir / "c.json").write_text(
            json.dumps({"name": "h100", "bandwidth": {"memory_bytes_per_second": half}}))
        _, after = self.plan(*flags, "--calibration", "c.json")
        self.assertEqual(after["memory"], before["memory"])
        first = [r["batch_curve"]["points"][0] for r in (before, after)]
        self.assertAlmostEqual(first[1]["expert_seconds"], 2 * first[0]["expert_seconds"])

    def test_a_profile_changes_the_predicted_experts(self):
        counts = [[0] * 16 for _ in range(4)]
        for layer in counts:
            layer[3] = layer[7] = 500
        (self.dir / "p.json").write_text(json.dumps({"logical_count": counts}))
        _, report = self.plan(MOE_4M, "--profile", "p.json")
        for point in report["batch_curve"]["points"]:
            self.assertAlmostEqual(point["distinct_experts"], 2)
        counts[0][3] = -1
        (self.dir / "p.json").write_text(json.dumps({"logical_count": counts}))
        self.refuse(DATA_CORRUPT, "layer 0, expert 3", "sluice-plan", MOE_4M, "--profile", "p.json")

    def test_traces_give_the_experts_of_consecutive_tokens(self):
        tokens, layers = 160, 4
        ids = bytes((t + k) % 16 for t in range(tokens) for _ in range(layers) for k in range(2))
        header = json.dumps({"text": {"dtype": "U8", "shape": [tokens, layers, 2],
                                      "data_offsets": [0, len(ids)]}}).encode()
        (self.dir / "t.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + ids)
        _, report = self.plan(MOE_4M, "--profile", "t.safetensors")
        for point in report["batch_curve"]["points"]:
            self.assertAlmostEqual(point["consecutive_experts"], min(point["batch"] + 1, 16))
            self.assertGreaterEqual(point["distinct_experts"], point["consecutive_experts"] - 1e-9
                                    if point["batch"] < 8 else 10)

    def test_placement_evens_out_what_a_profile_shows(self):
        loads = [900, 800, 700, 600] + [20 * e for e in range(1, 13)]
        (self.dir / "p.json").write_text(json.dumps({"logical_count": [loads] * 4}))
        _, report = self.plan(MOE_4M, "--tp", 1, "--ep", 4, "--profile", "p.json", "--slots", 20)
        dealt, placed = (report["routing"][key][0] for key in ("groups_dealt", "groups_placed"))
        self.assertAlmostEqual(dealt[0], 3000 * 4 / sum(loads))
        self.assertLess(max(placed), 1.1)
        self.assertEqual(report["verdict"]["slots"], 20)
        self.assertEqual(report["memory"]["expert_copies"] * 5, report["memory"]["weights"]["experts"])

    def test_wrong_requests(self):
        for code, message, flags in (
                (INVALID_ARGUMENT, "unknown target \"h101\"", ("--target", "h101")),
                (INVALID_ARGUMENT, "exceeds the 8 devices", ("--target", "h100x8", "--ranks", 9)),
                (INVALID_ARGUMENT, "tp = 2 times ep = 2 is not", ("--ranks", 8, "--tp", 2, "--ep", 2)),
                (INVALID_ARGUMENT, "exceeds the number of experts 16", ("--tp", 1, "--ep", 32)),
                (INVALID_ARGUMENT, "slots = 3 are fewer", ("--ranks", 2, "--slots", 3)),
                (INVALID_ARGUMENT, "dp = 3 does not divide", ("--ranks", 4, "--dp", 3)),
                (INVALID_ARGUMENT, "--ranks", ("--ranks", 0)),
                (NOT_FOUND, "none.json", ("--calibration", "none.json")),
                (NOT_FOUND, "none.json", ("--target-file", "none.json"))):
            self.refuse(code, message, "sluice-plan", MOE_4M, *flags)
        (self.dir / "t.json").write_text("{\"name\": \"x\", \"cores\": 1}")
        self.refuse(NOT_FOUND, "t.json: key \"peak_flops\" is missing", "sluice-plan", MOE_4M,
                    "--target-file", "t.json")
        (self.dir / "c.json").write_text("{\"bandwith\": {}}")
        self.refuse(DATA_CORRUPT, "c.json: key \"bandwith\": is not known here", "sluice-plan",
                    MOE_4M, "--calibration", "c.json")

    def test_targets_are_listed(self):
        lines = self.run_program("sluice-plan", "--list-targets").stdout.splitlines()
        self.assertIn("h200         NVIDIA H200 SXM 141 GB", lines)


if __name__ == "__main__":
    unittest.main(verbosity=2)
