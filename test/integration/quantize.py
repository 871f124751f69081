# ===- quantize.py - Checkpoints in every quantised format -------------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Rewrites the linear layers of a checkpoint of plain numbers into the tensors that one of the
# published quantisers would store, and beside it writes a twin: the same model with the numbers
# that those tensors stand for. The formats are written down here from their publishers' sources
# once more, one element after the other and in Python's standard library only, so that a
# misunderstanding in the compiler cannot hide.
#
# Also a program, for comparing speed and perplexity of formats on larger models:
#   quantize.py examples/moe-4m ct-mxfp4 /tmp/moe-4m-mxfp4 --only experts
#
# ===------------------------------------------------------------------------===#
import argparse
import array
import bisect
import json
import math
import pathlib
import re
import shutil
import struct

# Values of codes by number. E4M3 has no infinity; its two not-a-numbers are 0x7f and 0xff.
E4M3 = [math.ldexp((code & 7) / 8 + (1 if code >> 3 else 0), max(code >> 3, 1) - 7)
        for code in range(127)]
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def middles(values):
    return [(a + b) / 2 for a, b in zip(values, values[1:])]


E4M3_MIDDLES, E2M1_MIDDLES = middles(E4M3), middles(E2M1)


def to_e4m3(value):
    code = bisect.bisect_left(E4M3_MIDDLES, abs(value))
    return code | (128 if value < 0 else 0)


def from_e4m3(code):
    return -E4M3[code & 127] if code & 128 else E4M3[code]


def to_e2m1(value):
    return bisect.bisect_left(E2M1_MIDDLES, abs(value)) | (8 if value < 0 else 0)


def from_e2m1(code):
    return -E2M1[code & 7] if code & 8 else E2M1[code]


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def f16(value):
    return struct.unpack("<e", struct.pack("<e", value))[0]


def bf16(value):
    """Rounded to bfloat16, ties away from zero: which neighbour does not matter here."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.unpack("<f", struct.pack("<I", (bits + 0x8000) & 0xffff0000))[0]


def power_of_two(value):
    """The nearest power of two that is not smaller, as E8M0 code and number."""
    exponent = math.ceil(math.log2(value)) if value > 0 else -127
    return exponent + 127, math.ldexp(1.0, exponent)


def pack_floats(values, dtype):
    if dtype == "BF16":
        bits = array.array("I", array.array("f", values).tobytes())
        return array.array("H", [word >> 16 for word in bits]).tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    return array.array("f", values).tobytes()


def words_of(fields, bits, size=4):
    """Integers of `bits` bits in words of `size` bytes, the first in the lowest bits."""
    per_word, result = size * 8 // bits, []
    for begin in range(0, len(fields), per_word):
        word = 0
        for place, field in enumerate(fields[begin:begin + per_word]):
            word |= (field & ((1 << bits) - 1)) << (place * bits)
        result.append(word)
    return array.array("I" if size == 4 else "B", result).tobytes()


class Matrix:
    """Rows of numbers, cut into groups of columns."""

    def __init__(self, values, rows, columns):
        self.values, self.rows, self.columns = values, rows, columns

    def groups(self, size):
        return -(-self.columns // size)

    def group(self, row, index, size):
        begin = row * self.columns + index * size
        return self.values[begin:row * self.columns + min((index + 1) * size, self.columns)]

    def largest(self, row, index, size):
        return max(map(abs, self.group(row, index, size)))

    def by_groups(self, size, scale_of, encode):
        """(scales, encoded groups) with encode(value, scale, row, group)."""
        scales, codes = [], []
        for row in range(self.rows):
            for index in range(self.groups(size)):
                scale = scale_of(row, index)
                scales.append(scale)
                codes.extend(encode(value, scale) for value in self.group(row, index, size))
        return scales, codes

    def numbers(self, codes, value_of, scale_at):
        """value_of(code) * scale, where scale_at(row, column) says which."""
        return [value_of(code) * scale_at(place // self.columns, place % self.columns)
                for place, code in enumerate(codes)]


# Each format is a function of a matrix that returns the tensors of its module, as suffix ->
# (dtype, shape, bytes), and the numbers they stand for. FORMATS adds the configuration.


def fp8_blocks(block_rows, block_columns, scale_name, dtype="F32"):

    def quantize(m):
        across, down = m.groups(block_columns), -(-m.rows // block_rows)
        scales, raw = [], []
        for block in range(down):
            lines = range(block * block_rows, min((block + 1) * block_rows, m.rows))
            for index in range(across):
                scale = max(m.largest(row, index, block_columns) for row in lines) / 448 or 1e-6
                if dtype == "F8_E8M0":
                    code, scale = power_of_two(scale)
                    raw.append(code)
                else:
                    scale = bf16(scale * 1.01) if dtype == "BF16" else f32(scale)
                scales.append(scale)

        def scale_at(row, column):
            return scales[row // block_rows * across + column // block_columns]

        codes = [to_e4m3(value / scale_at(place // m.columns, place % m.columns))
                 for place, value in enumerate(m.values)]
        stored = bytes(raw) if raw else pack_floats(scales, dtype)
        return {
            "weight": ("F8_E4M3", [m.rows, m.columns], bytes(codes)),
            scale_name: (dtype, [down, across], stored),
        }, m.numbers(codes, from_e4m3, scale_at)

    return quantize


def fp8_tensor(shape, with_input_scale, name="weight_scale"):

    def quantize(m):
        scale = f32(max(map(abs, m.values)) / 448)
        codes = [to_e4m3(value / scale) for value in m.values]
        tensors = {
            "weight": ("F8_E4M3", [m.rows, m.columns], bytes(codes)),
            name: ("F32", shape, pack_floats([scale], "F32")),
        }
        if with_input_scale:
            tensors["input_scale"] = ("F32", shape, pack_floats([1.5], "F32"))
        return tensors, m.numbers(codes, from_e4m3, lambda row, column: scale)

    return quantize


def fp8_channel(m):
    scales, codes = m.by_groups(m.columns, lambda row, g: bf16(m.largest(row, 0, m.columns) / 440),
                                lambda value, scale: to_e4m3(value / scale))
    return {
        "weight": ("F8_E4M3", [m.rows, m.columns], bytes(codes)),
        "weight_scale": ("BF16", [m.rows, 1], pack_floats(scales, "BF16")),
    }, m.numbers(codes, from_e4m3, lambda row, column: scales[row])


def int8_channel(m):
    scales, codes = m.by_groups(m.columns, lambda row, g: f32(m.largest(row, 0, m.columns) / 127),
                                lambda value, scale: max(-128, min(127, round(value / scale))))
    return {
        "weight": ("I8", [m.rows, m.columns], array.array("b", codes).tobytes()),
        "weight_scale": ("F32", [m.rows, 1], pack_floats(scales, "F32")),
    }, m.numbers(codes, float, lambda row, column: scales[row])


def affine(m, size, bits, symmetric, rounded):
    """(scales, zeros, codes 0..2^bits - 1), one scale and zero per group of `size` columns."""
    top, scales, zeros, codes = 2 ** bits - 1, [], [], []
    for row in range(m.rows):
        for index in range(m.groups(size)):
            group = m.group(row, index, size)
            if symmetric:
                scale, zero = rounded(max(map(abs, group)) / (top // 2)), (top + 1) // 2
            else:
                low, high = min(min(group), 0), max(max(group), 0)
                scale = rounded((high - low) / top)
                zero = max(0, min(top, round(-low / scale)))
            scales.append(scale)
            zeros.append(zero)
            codes.extend(max(0, min(top, round(value / scale) + zero)) for value in group)
    return scales, zeros, codes


def affine_numbers(m, size, scales, zeros, codes):
    groups, result = m.groups(size), []
    for place, code in enumerate(codes):
        at = place // m.columns * groups + place % m.columns // size
        result.append((code - zeros[at]) * scales[at])
    return result


def packed_rows(codes, rows, columns, bits):
    """Every row in 32-bit words of its own."""
    return b"".join(words_of(codes[row * columns:(row + 1) * columns], bits)
                    for row in range(rows))


def transposed(values, rows, columns):
    return [values[row * columns + column] for column in range(columns) for row in range(rows)]


def compressed_packed(group, bits=4, symmetric=True, index=False):

    def quantize(m):
        size = group or m.columns
        scales, zeros, codes = affine(m, size, bits, symmetric, bf16)
        groups, per_word = m.groups(size), 32 // bits
        tensors = {
            "weight_packed": ("I32", [m.rows, -(-m.columns // per_word)],
                              packed_rows(codes, m.rows, m.columns, bits)),
            "weight_scale": ("BF16", [m.rows, groups], pack_floats(scales, "BF16")),
            "weight_shape": ("I64", [2], struct.pack("<2q", m.rows, m.columns)),
        }
        if index:
            places = array.array("i", [column // size for column in range(m.columns)])
            tensors["weight_g_idx"] = ("I32", [m.columns], places.tobytes())
        if not symmetric:  # packed along the rows
            columns = packed_rows(transposed(zeros, m.rows, groups), groups, m.rows, bits)
            words = array.array("I", columns)
            down = -(-m.rows // per_word)
            tensors["weight_zero_point"] = (
                "I32", [down, groups], array.array("I", transposed(words, groups, down)).tobytes())
        return tensors, affine_numbers(m, size, scales, zeros, codes)

    return quantize


def nvfp4(model_opt):

    def quantize(m):
        whole = f32(max(map(abs, m.values)) / (448 * 6))
        stored = whole if model_opt else f32(1 / whole)
        factor = stored if model_opt else 1 / stored
        scales, codes = m.by_groups(
            16, lambda row, g: to_e4m3(m.largest(row, g, 16) / 6 / factor) or 1,
            lambda value, scale: to_e2m1(value / (from_e4m3(scale) * factor)))
        across = m.groups(16)
        words = b"".join(words_of(codes[row * m.columns:(row + 1) * m.columns], 4, 1)
                         for row in range(m.rows))
        tensors = {
            "weight" if model_opt else "weight_packed": ("U8", [m.rows, m.columns // 2], words),
            "weight_scale": ("F8_E4M3", [m.rows, across], bytes(scales)),
            "weight_scale_2" if model_opt else "weight_global_scale":
                ("F32", [] if model_opt else [1], pack_floats([stored], "F32")),
            "input_scale" if model_opt else "input_global_scale":
                ("F32", [] if model_opt else [1], pack_floats([1.5], "F32")),
        }
        return tensors, m.numbers(
            codes, from_e2m1,
            lambda row, column: from_e4m3(scales[row * across + column // 16]) * factor)

    return quantize


def mxfp4(m):
    scales, codes = m.by_groups(32, lambda row, g: power_of_two(m.largest(row, g, 32) / 6)[0],
                                lambda value, scale: to_e2m1(math.ldexp(value, 127 - scale)))
    words = b"".join(words_of(codes[row * m.columns:(row + 1) * m.columns], 4, 1)
                     for row in range(m.rows))
    across = m.groups(32)
    return {
        "weight_packed": ("U8", [m.rows, m.columns // 2], words),
        "weight_scale": ("U8", [m.rows, across], bytes(scales)),
    }, m.numbers(codes, from_e2m1,
                 lambda row, column: math.ldexp(1.0, scales[row * across + column // 32] - 127))


def awq(size):

    def reorder(line):
        """A word's nibbles, from the lowest, hold its outputs 0 2 4 6 1 3 5 7."""
        return [line[begin + place] for begin in range(0, len(line), 8)
                for place in (0, 2, 4, 6, 1, 3, 5, 7)]

    def quantize(m):
        scales, zeros, codes = affine(m, size, 4, False, f16)
        groups = m.groups(size)
        inputs = transposed(codes, m.rows, m.columns)  # [inputs, outputs]
        zero_lines = transposed(zeros, m.rows, groups)
        return {
            "qweight": ("I32", [m.columns, m.rows // 8], words_of(reorder(inputs), 4)),
            "qzeros": ("I32", [groups, m.rows // 8], words_of(reorder(zero_lines), 4)),
            "scales": ("F16", [groups, m.rows],
                       pack_floats(transposed(scales, m.rows, groups), "F16")),
        }, affine_numbers(m, size, scales, zeros, codes)

    return quantize


def gptq(group, less_one, symmetric=True, index=True):

    def quantize(m):
        size = group or m.columns
        scales, zeros, codes = affine(m, size, 4, symmetric, f16)
        if less_one:  # a zero of 0 cannot be stored less one
            zeros = [max(zero, 1) for zero in zeros]
        groups, down = m.groups(size), m.columns // 8
        # Words hold eight inputs of one output: [inputs / 8, outputs].
        words = array.array("I", packed_rows(codes, m.rows, m.columns, 4))
        stored = [zero - 1 if less_one else zero for zero in transposed(zeros, m.rows, groups)]
        tensors = {
            "qweight": ("I32", [down, m.rows],
                        array.array("I", transposed(words, m.rows, down)).tobytes()),
            "qzeros": ("I32", [groups, m.rows // 8], packed_rows(stored, groups, m.rows, 4)),
            "scales": ("F16", [groups, m.rows],
                       pack_floats(transposed(scales, m.rows, groups), "F16")),
        }
        if index:
            places = array.array("i", [column // size for column in range(m.columns)])
            tensors["g_idx"] = ("I32", [m.columns], places.tobytes())
        return tensors, affine_numbers(m, size, scales, zeros, codes)

    return quantize


def fp8_config(**more):
    return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", **more}


def compressed_config(form, bits, kind, strategy, symmetric=True, **weights):
    return {
        "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
        "global_compression_ratio": None, "kv_cache_scheme": None, "version": "0.12.2",
        "transform_config": {}, "sparsity_config": {},
        "ignore": ["lm_head", "re:.*block_sparse_moe.gate$"],
        "config_groups": {"group_0": {
            "targets": ["Linear"], "input_activations": None, "output_activations": None,
            "weights": {
                "num_bits": bits, "type": kind, "strategy": strategy, "symmetric": symmetric,
                "dynamic": False, "group_size": None, "block_structure": None, "actorder": None,
                "observer": "minmax", "observer_kwargs": {}, **weights}}},
    }


def gptq_config(size, **more):
    return {"quant_method": "gptq", "bits": 4, "group_size": size, "desc_act": False, "sym": True,
            "lm_head": False, "damp_percent": 0.01, "static_groups": False,
            "true_sequential": True, **more}


AWQ_CONFIG = {"quant_method": "awq", "bits": 4, "zero_point": True, "version": "gemm",
              "modules_to_not_convert": ["gate"]}

# name -> (quantization_config, function of a matrix, the format that the compiler packs). A
# configuration named hf_quant_config goes to the file of that name.
FORMATS = {
    "fp8-block": (fp8_config(weight_block_size=[128, 128]),
                  fp8_blocks(128, 128, "weight_scale_inv"), None),
    "fp8-block-small": (fp8_config(weight_block_size=[40, 48]),
                        fp8_blocks(40, 48, "weight_scale_inv", "BF16"), "f8e4m3:group48"),
    "fp8-block-ue8m0": (fp8_config(weight_block_size=[32, 32], scale_fmt="ue8m0"),
                        fp8_blocks(32, 32, "weight_scale_inv", "F8_E8M0"), "f8e4m3:group32"),
    "fp8-tensor": ({**fp8_config(), "activation_scheme": "static", "ignored_layers": ["lm_head"]},
                   fp8_tensor([], True), "f8e4m3:channel"),
    "fp8-tensor-inv": (fp8_config(), fp8_tensor([1], False, "weight_scale_inv"), "f8e4m3:channel"),
    "ct-fp8-tensor": (compressed_config("float-quantized", 8, "float", "tensor"),
                      fp8_tensor([1], True), "f8e4m3:channel"),
    "ct-fp8-channel": (compressed_config("float-quantized", 8, "float", "channel"), fp8_channel,
                       "f8e4m3:channel"),
    "ct-fp8-block": (compressed_config("float-quantized", 8, "float", "block",
                                       block_structure=[32, 32]),
                     fp8_blocks(32, 32, "weight_scale", "BF16"), "f8e4m3:group32"),
    "ct-int8": (compressed_config("int-quantized", 8, "int", "channel"), int8_channel,
                "i8:channel"),
    "ct-int4": (compressed_config("pack-quantized", 4, "int", "group", group_size=32),
                compressed_packed(32), "i4:group32"),
    "ct-int4-128": (compressed_config("pack-quantized", 4, "int", "group", group_size=128),
                    compressed_packed(128), None),
    "ct-int4-zeros": (compressed_config("pack-quantized", 4, "int", "group", False, group_size=16,
                                        actorder="weight"),
                      compressed_packed(16, symmetric=False, index=True), "i4:group16"),
    "ct-int4-channel": (compressed_config("pack-quantized", 4, "int", "channel"),
                        compressed_packed(0), "i4:channel"),
    "ct-int8-packed": (compressed_config("pack-quantized", 8, "int", "group", group_size=32),
                       compressed_packed(32, bits=8), "i8:group32"),
    "ct-nvfp4": (compressed_config("nvfp4-pack-quantized", 4, "float", "tensor_group",
                                   group_size=16), nvfp4(False), "nvfp4"),
    "ct-mxfp4": (compressed_config("mxfp4-pack-quantized", 4, "float", "group", group_size=32),
                 mxfp4, "mxfp4"),
    "awq": ({**AWQ_CONFIG, "group_size": 32}, awq(32), "i4:group32"),
    "gptq": (gptq_config(32), gptq(32, True), "i4:group32"),
    "gptq-channel": (gptq_config(-1), gptq(0, True, index=False), "i4:channel"),
    "gptq-v2": (gptq_config(16, sym=False, checkpoint_format="gptq_v2", desc_act=True),
                gptq(16, False, symmetric=False), "i4:group16"),
    "modelopt-nvfp4": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"],
                        "producer": {"name": "modelopt"}, "config_groups": {},
                        "kv_cache_scheme": None}, nvfp4(True), "nvfp4"),
    "modelopt-fp8": ({"hf_quant_config": {
        "producer": {"name": "modelopt", "version": "0.33"},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None,
                         "exclude_modules": ["lm_head", "*.gate"]}}}, fp8_tensor([], True),
                     "f8e4m3:channel"),
}


def is_linear(name, shape):
    """Which weights quantisers replace: no tables, norms, routers or heads."""
    return (name.endswith(".weight") and len(shape) == 2 and not name.endswith(".gate.weight")
            and "embed" not in name and "lm_head" not in name)


def read_checkpoint(folder):
    """Yields (name, shape, dtype, bytes) of every tensor."""
    for path in sorted(folder.glob("model*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            for name, entry in header.items():
                if name != "__metadata__":
                    first, last = entry["data_offsets"]
                    file.seek(8 + length + first)
                    yield name, entry["shape"], entry["dtype"], file.read(last - first)


def floats_of(dtype, data):
    if dtype == "BF16":
        words = array.array("I", [bits << 16 for bits in array.array("H", data)])
        return array.array("f", words.tobytes())
    assert dtype == "F32", f"no linear layer of type {dtype} expected"
    return array.array("f", data)


def write_checkpoint(folder, config, tensors, source, quant_config=None):
    """`tensors` is name -> (dtype, shape, bytes)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if quant_config:
        (folder / "hf_quant_config.json").write_text(json.dumps(quant_config))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def rewrite(source, form, quantized, twin=None, linear=is_linear):
    """Writes `source` in a format, and its twin where a folder is given."""
    settings, quantize, _ = FORMATS[form]
    config = json.loads((source / "config.json").read_text())
    stored, numbers = {}, {}
    for name, shape, dtype, data in read_checkpoint(source):
        if not linear(name, shape):
            stored[name] = numbers[name] = (dtype, shape, data)
            continue
        tensors, values = quantize(Matrix(floats_of(dtype, data), *shape))
        module = name.removesuffix("weight")
        for suffix, tensor in tensors.items():
            stored[module + suffix] = tensor
        if twin:
            numbers[name] = ("F32", shape, pack_floats(values, "F32"))
    beside = settings.get("hf_quant_config")
    changed = config if beside else {**config, "quantization_config": settings}
    write_checkpoint(quantized, changed, stored, source, beside)
    if twin:
        write_checkpoint(twin, config, numbers, source)


def main():
    parser = argparse.ArgumentParser(description="Rewrites a checkpoint into a quantised format.")
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--twin", type=pathlib.Path, help="also write the numbers, unquantised")
    parser.add_argument("--only", default="", help="only weights whose name holds this expression")
    options = parser.parse_args()
    rewrite(options.checkpoint, options.format, options.output, options.twin,
            lambda name, shape: is_linear(name, shape) and re.search(options.only, name))


if __name__ == "__main__":
    main()
