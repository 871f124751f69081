# ===- formats.py - One model in every weight format: speed and perplexity ---===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Rewrites a checkpoint of plain numbers into quantised ones (by plain rounding, as
# test/integration/quantize.py does it), compiles all of them, scores held-out texts and measures
# decoding side by side. Writes one JSON document.
#
#   formats.py CHECKPOINT --bin build/bin --work DIR [--texts FILE...] [--formats NAME...]
#              > docs/measurements/NAME.json
#
# With --synthetic, CHECKPOINT needs a config.json only: weights are synthetic in every format,
# and texts cannot be scored.
#
# ===------------------------------------------------------------------------===#
import argparse
import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import quantize  # noqa: E402

# Name here -> format of quantize.py and which weights.
FORMATS = {
    "fp8-block": ("fp8-block", ""),
    "fp8-channel": ("ct-fp8-channel", ""),
    "int8-channel": ("ct-int8", ""),
    "int4-group32": ("ct-int4", ""),
    "int4-group128": ("ct-int4-128", ""),
    "int4-group32-experts": ("ct-int4", "experts"),
    "mxfp4-experts": ("ct-mxfp4", "experts"),
    "nvfp4-experts": ("ct-nvfp4", "experts"),
}


def rewrite(checkpoint, name, folder, synthetic):
    kind, only = FORMATS[name]
    if synthetic:
        config = json.loads((checkpoint / "config.json").read_text())
        config["quantization_config"] = quantize.FORMATS[kind][0]
        if only:
            sys.exit(f"formats.py: {name} quantises some modules only; not with --synthetic")
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
    else:
        quantize.rewrite(
            checkpoint, kind, folder,
            linear=lambda key, shape: quantize.is_linear(key, shape) and re.search(only, key))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--texts", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    def run(program, *args):
        result = subprocess.run([options.bin / program, *map(str, args)], text=True,
                                stdout=subprocess.PIPE, check=True)
        return result.stdout

    artifacts = {}
    for name in ["bf16", *options.formats]:
        folder, artifact = options.work / name, options.work / f"{name}.sluice"
        if name == "bf16":
            folder = options.checkpoint
        elif not folder.exists():
            rewrite(options.checkpoint, name, folder, options.synthetic)
        if not artifact.exists():
            flags = ["--weights=synthetic"] if options.synthetic else []
            run("sluice-compile", folder, "-o", artifact, "--quiet", *flags)
        artifacts[name] = artifact
    perplexity = {}
    for name, artifact in artifacts.items():
        for text in options.texts:
            score = run("sluice-run", artifact, "--score", text)
            value = float(re.search(r"perplexity ([0-9.]+)", score).group(1))
            perplexity.setdefault(text.stem.split(".")[-1], {})[name] = value
    speed = json.loads(run("decode_bench", *artifacts.values(), f"--threads={options.threads}",
                           f"--rounds={options.rounds}"))
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    json.dump({"cpu": cpu, "model": options.checkpoint.name, "decode": speed,
               "perplexity": perplexity}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
