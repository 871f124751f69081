# ===- quantize_formats.py - What every format of --quantize costs -----------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Compiles one checkpoint of plain numbers with every format that the compiler quantises to and
# scores held-out texts, one per domain, on the host. Writes one JSON document: perplexities as they
# are, and their increase in per cent. formats.py measures the speed of formats.
#
#   quantize_formats.py CHECKPOINT --bin build/bin --texts FILE... > docs/measurements/NAME.json
#
# ===------------------------------------------------------------------------===#
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

FORMATS = {
    "fp8-tensor": ["--quantize=fp8-tensor"],
    "fp8-channel": ["--quantize=fp8-channel"],
    "fp8-block": ["--quantize=fp8-block"],
    "fp8-block, fp8 activations": ["--quantize=fp8-block", "--activations=fp8"],
    "int8-channel": ["--quantize=int8-channel"],
    "int4-g32": ["--quantize=int4-g32"],
    "int4-g32:experts": ["--quantize=int4-g32:experts"],
    "int4-g128:experts": ["--quantize=int4-g128:experts"],
    "mxfp4": ["--quantize=mxfp4"],
    "mxfp4:experts": ["--quantize=mxfp4:experts"],
    "nvfp4": ["--quantize=nvfp4"],
    "nvfp4:experts": ["--quantize=nvfp4:experts"],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--texts", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    options = parser.parse_args()

    def score(flags):
        with tempfile.TemporaryDirectory() as folder:
            artifact = pathlib.Path(folder) / "model.sluice"
            subprocess.run([options.bin / "sluice-compile", options.checkpoint, "-o", artifact,
                            "--quiet", *flags], check=True, stderr=subprocess.DEVNULL)
            result = {}
            for text in options.texts:
                printed = subprocess.run(
                    [options.bin / "sluice-run", artifact, "--quiet", "--score", text],
                    stdout=subprocess.PIPE, text=True, check=True).stdout
                result[text.stem.split(".")[-1]] = float(
                    re.search(r"perplexity ([0-9.]+)", printed).group(1))
        return result

    base = score([])
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    document = {"cpu": cpu, "model": options.checkpoint.name, "window": 512, "perplexity": base,
                "formats": {}}
    for name in options.formats:
        scores = score(FORMATS[name])
        increases = {domain: round(100 * (value / base[domain] - 1), 3)
                     for domain, value in scores.items()}
        document["formats"][name] = {
            "perplexity": scores, "increase_percent": increases,
            "mean_increase_percent": round(sum(increases.values()) / len(increases), 3)}
        print(name, document["formats"][name]["mean_increase_percent"], file=sys.stderr, flush=True)
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
