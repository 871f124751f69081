# ===- support.py - What the integration tests share ------------------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# The integration tests drive the programs as a user does, through their command lines, and read
# their files with code of their own: only the standard library, so that a fresh machine can run
# them, and nothing of Sluice, so that a defect in a reader cannot hide one in its writer.
#
# ===------------------------------------------------------------------------===#
import array
import contextlib
import hashlib
import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

BIN = pathlib.Path(os.environ["SLUICE_BIN_DIR"])
SOURCE = pathlib.Path(__file__).resolve().parents[2]
MOE_4M = SOURCE / "examples/moe-4m"
MIXTRAL = SOURCE / "test/data/golden/mixtral"

# The exit codes of the programs: the values of sluice::StatusCode.
OK, INTERNAL, INVALID_ARGUMENT, NOT_FOUND, DATA_CORRUPT, UNSUPPORTED = range(6)
RESOURCE_EXHAUSTED, IO, VERSION_MISMATCH, DEVICE, ABORTED, CHECK_FAILED = range(6, 12)

DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U8": 1}


class ProgramTest(unittest.TestCase):
    """A test with a scratch folder of its own that runs programs and looks at their results."""

    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="sluice-test-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def run_program(self, program, *args, code=OK, **kwargs):
        """Runs a program to its end and checks its exit code; a crash shows as a negative one."""
        result = subprocess.run(
            [BIN / program, *map(str, args)], capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, cwd=self.dir, timeout=240, **kwargs)
        self.assertEqual(
            result.returncode, code,
            f"{program} {' '.join(map(str, args))[:400]}\n--- stdout\n{result.stdout[-2000:]}"
            f"\n--- stderr\n{result.stderr[-4000:]}")
        return result

    def compile(self, model, name="model.sluice", *flags):
        """Compiles a checkpoint into an artifact of the scratch folder and returns its path."""
        artifact = self.dir / name
        self.run_program("sluice-compile", model, "-o", artifact, "--quiet", *flags)
        return artifact

    def refuse(self, code, messages, program, *args):
        """Expects a refusal: this exit code and, on stderr, each of these texts."""
        result = self.run_program(program, *args, code=code)
        for message in [messages] if isinstance(messages, str) else messages:
            self.assertIn(message, result.stderr)
        return result


def file_digests(folder):
    """Path relative to the folder -> SHA-256, of every file below it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }


def write_manifest(artifact):
    """Makes SHA256SUMS agree with the files again, after a test has changed one on purpose."""
    digests = file_digests(artifact)
    digests.pop("SHA256SUMS", None)
    lines = [f"{digest}  {path}\n" for path, digest in sorted(digests.items())]
    (artifact / "SHA256SUMS").write_text("".join(lines))


def read_header(path):
    """The JSON header of a safetensors file, and where its data section starts."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length


def read_tensor(path, name):
    """(values, shape) of a float32 or int32 tensor."""
    header, start = read_header(path)
    entry = header[name]
    first, last = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(start + first)
        values = array.array({"F32": "f", "I32": "i"}[entry["dtype"]], file.read(last - first))
    return values, entry["shape"]


def write_header(path, header, data_bytes=0):
    """A safetensors file of this header whose data section is a hole of `data_bytes`."""
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + data_bytes)


def layout(tensors, dtype="BF16"):
    """(header, bytes of data) for a list of (name, shape), one after the other."""
    header, offset = {}, 0
    for name, shape in tensors:
        length = math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + length]}
        offset += length
    return header, offset


def mixtral_config(**changes):
    """A config.json of the Mixtral family; the default is Mixtral 8x7B's."""
    config = {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 32000,
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "num_experts_per_tok": 2, "hidden_act": "silu", "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    config.update(changes)
    return config


def mixtral_tensors(config):
    """Every tensor of such a checkpoint as (name, shape), layer by layer."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    key_value = config["num_key_value_heads"] * head
    tensors = [("model.embed_tokens.weight", [config["vocab_size"], hidden])]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        tensors += [
            (layer + "input_layernorm.weight", [hidden]),
            (layer + "self_attn.q_proj.weight", [hidden, hidden]),
            (layer + "self_attn.k_proj.weight", [key_value, hidden]),
            (layer + "self_attn.v_proj.weight", [key_value, hidden]),
            (layer + "self_attn.o_proj.weight", [hidden, hidden]),
            (layer + "post_attention_layernorm.weight", [hidden]),
            (layer + "block_sparse_moe.gate.weight", [config["num_local_experts"], hidden]),
        ]
        for expert in range(config["num_local_experts"]):
            prefix = f"{layer}block_sparse_moe.experts.{expert}."
            tensors += [(prefix + "w1.weight", [width, hidden]),
                        (prefix + "w2.weight", [hidden, width]),
                        (prefix + "w3.weight", [width, hidden])]
    return tensors + [("model.norm.weight", [hidden]),
                      ("lm_head.weight", [config["vocab_size"], hidden])]


def write_sparse_checkpoint(folder, config, shard_bytes=5 << 30):
    """A checkpoint of this shape with weights of zero that take no space on disk; returns its
    apparent size. Sharded as Hugging Face does it when larger than one shard."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shards, size = [[]], 0
    for name, shape in mixtral_tensors(config):
        length = 2 * math.prod(shape)
        if shards[-1] and size + length > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += length
    total, weight_map = 0, {}
    for number, tensors in enumerate(shards, 1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, length = layout(tensors)
        write_header(folder / file, header, length)
        total += length
        weight_map.update({name: file for name, _ in tensors})
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


@contextlib.contextmanager
def small_file_system(folder, megabytes):
    """Mounts a memory file system of that size; needs root, so it skips the test without."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or not mount:
        raise unittest.SkipTest("a full disk needs root, to mount a small file system")
    options = f"size={megabytes}m"
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", options, "sluice-test", str(folder)],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        raise unittest.SkipTest("this machine mounts no tmpfs: " + mounted.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
