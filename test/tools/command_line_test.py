# ===- command_line_test.py - Help, versions and their documentation ---------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Help is read on a screen and docs/cli.md beside it: the one must fit, and neither may know a flag
# that the other does not.
#
# ===------------------------------------------------------------------------===#
import re
import unittest

from support import SOURCE, ProgramTest

PROGRAMS = ("sluice-compile", "sluice-plan", "sluice-run", "sluice-inspect", "sluice-place")
EVERYWHERE = {"--help", "--version"}
# What a program misses before it looks at flags that it does not know.
REQUIRED = {"sluice-run": ("--token-ids", "1"),
            "sluice-place": ("-o", "y", "--devices", "1", "--slots", "1")}
CODES = ("done", "defect of Sluice", "wrong argument", "not found", "corrupt data", "unsupported",
         "does not fit", "input/output error", "newer version", "device error", "aborted",
         "check failed")


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*[a-z]", text))


class CommandLine(ProgramTest):

    def setUp(self):
        super().setUp()
        text = (SOURCE / "docs/cli.md").read_text()
        head, *sections = re.split(r"(?m)^## ", text)
        self.sections = {section.split("\n", 1)[0]: section for section in sections}
        self.sections[""] = head

    def help_flags(self, program):
        """The flags that a help declares: the first words of its lines, not those in prose."""
        flags = set()
        for line in self.run_program(program, "--help").stdout.splitlines():
            if match := re.match(r" +((?:-\w,)?--[\w-]+)", line):
                flags |= flags_in(match[1].replace(",", " "))
        return flags

    def test_help_fits_on_a_screen(self):
        for program in PROGRAMS:
            result = self.run_program(program, "--help")
            lines = result.stdout.splitlines()
            self.assertLessEqual(len(lines), 60, program)
            self.assertLessEqual(max(map(len, lines)), 110, program)
            self.assertEqual(result.stderr, "")
            self.assertIn("Usage: " + program, result.stdout)
            for code, name in enumerate(CODES):
                self.assertIn(f"{code} {name}", result.stdout.replace("\n", " "))

    def test_versions(self):
        for program in PROGRAMS:
            self.assertRegex(self.run_program(program, "--version").stdout,
                             rf"^{program} \d+\.\d+\.\d+\n$")
        self.assertRegex(self.run_program("sluice-opt", "--version").stdout,
                         r"(?m)^sluice-opt \d+\.\d+\.\d+$")

    def test_every_flag_is_documented(self):
        for program in PROGRAMS:
            flags = self.help_flags(program)
            self.assertGreater(len(flags), 4, program)
            self.assertEqual(flags - flags_in(self.sections[program]) - EVERYWHERE, set(), program)
            self.assertLessEqual(EVERYWHERE, flags & flags_in(self.sections[""]))

    def test_every_documented_flag_exists(self):
        for program in PROGRAMS:
            rows = "\n".join(line for line in self.sections[program].splitlines()
                             if line.startswith(("| `", "**Lists**", "    sluice-compile")))
            self.assertEqual(flags_in(rows) - self.help_flags(program), set(), program)

    def test_every_pass_is_documented(self):
        declared = {flag for flag in self.help_flags("sluice-opt") if flag.startswith("--sluice-")}
        documented = {flag for flag in flags_in(self.sections["sluice-opt"])
                      if flag.startswith("--sluice-")}
        self.assertGreater(len(declared), 10)
        self.assertEqual(declared, documented)

    def test_exit_codes_are_documented(self):
        rows = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \|", self.sections["Exit codes"])
        self.assertEqual([int(code) for code, _ in rows], list(range(len(CODES))))
        for (_, meaning), name in zip(rows, CODES):
            self.assertIn(name, meaning)

    def test_defaults_in_the_help_are_documented(self):
        for program in PROGRAMS:
            text = re.sub(r"\n {20,}", " ", self.run_program(program, "--help").stdout)
            for flag, default in re.findall(r"(--[\w-]+) \S+?=(\S+)", text):
                rows = re.findall(rf"(?m)^\| `{flag}`.*$", self.sections[program])
                self.assertEqual(len(rows), 1, flag)
                value = default.split("}=")[-1].split("=")[-1]
                if value not in ("0", "[]"):
                    self.assertRegex(rows[0], rf"\| `?{re.escape(value)}`? \|$", flag)

    def test_bad_flags(self):
        for program in PROGRAMS:
            result = self.refuse(2, ["--bogus", f"'{program} --help'"], program, "x",
                                 *REQUIRED.get(program, ()), "--bogus")
            self.assertEqual(result.stdout, "")
        self.refuse(1, "--bogus", "sluice-opt", "--bogus")


if __name__ == "__main__":
    unittest.main(verbosity=2)
