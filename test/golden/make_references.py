# ===- make_references.py - Small random checkpoints with reference results ----===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Writes the folders of test/data/golden that variants.py describes: a random checkpoint in the
# tensor names and the config.json of public checkpoints, and what Hugging Face transformers
# computes from exactly the stored weights in float32 with eager attention. Needs torch and
# transformers, so CI reads the folders and never runs this.
#
# Two engines round differently, and a routing decision or a greedy token that hangs by a thread
# would turn that into a failure. A draw is only kept when tiny changes of all weights, far larger
# than rounding, change the logits as little as they should, and greedy tokens win by far more.
#
#   python3 test/golden/make_references.py [NAME ...]      default: all variants
#
# ===------------------------------------------------------------------------===#
import argparse
import copy
import json
import math
import pathlib
import re
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from variants import SIZES, VARIANTS

OUT = pathlib.Path(__file__).resolve().parent.parent / "data/golden"
ROWS, LENGTH, PROMPT, NEW_TOKENS = 2, 40, 12, 24
GENERATION_CONFIG = json.dumps({"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}) + "\n"

# What a changed weight may do: relative size of the change, and the largest logit difference.
PERTURBATION, LARGEST_EFFECT = 2e-6, 1e-3
# The least distance between the best and the second token of a greedy step.
LEAST_MARGIN = 0.02
LEAST_DISTINCT = 4
DRAWS = 40

# Names that transformers 5 gives to fused weights in memory; public checkpoints do not have them.
FUSED_IN_MEMORY = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
KEEPS_FUSED_NAMES = ("gpt_oss", "llama4_text")


def spread(name, parameter, transposed, tied):
    """Standard deviation and mean of a random parameter. Experts of some families are stored
    transposed, with their inputs in the last but one axis."""
    if "norm" in name.split(".")[-2]:
        return (0.1, 0.0) if name.endswith("bias") else (0.2, 1.0)
    if name.endswith("e_score_correction_bias"):
        return (0.05, 0.0)
    if name.endswith(("sinks", "bias")) or parameter.ndim == 1:
        return (0.3, 0.0)
    if "embed_tokens" in name or name.endswith("wte.weight"):
        # A table that is also the head would otherwise let every token predict itself.
        return (2.0 / math.sqrt(parameter.shape[-1]) if tied else 1.0, 0.0)
    router = name.endswith(("gate.weight", "router.weight", "router.layer.weight"))
    inputs = parameter.shape[-2] if transposed and parameter.ndim == 3 else parameter.shape[-1]
    gain = 3.0 if router or name.startswith("lm_head") else 1.4
    return (gain / math.sqrt(inputs), 0.0)


def draw_weights(model, seed):
    """Fills every parameter and persistent buffer with random numbers that bfloat16 has."""
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for name, tensor in sorted(state.items()):
        deviation, mean = spread(name, tensor, model.config.model_type in KEEPS_FUSED_NAMES,
                                 model.config.tie_word_embeddings)
        values = torch.randn(tensor.shape, generator=generator) * deviation + mean
        tensor.copy_(values.bfloat16().float())


def results(model, input_ids):
    with torch.no_grad():
        output = model(input_ids, output_hidden_states=True, use_cache=False)
    return output.logits.float(), [state.float() for state in output.hidden_states]


def continuation(model, prompt):
    """Greedy tokens after `prompt`, and by how much each was preferred. Recomputes everything in
    every step, so that no cache takes part in a reference."""
    ids, margins = prompt[None], []
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            best = model(ids, use_cache=False).logits[0, -1].float().topk(2)
            margins.append(best.values[0] - best.values[1])
            ids = torch.cat([ids, best.indices[:1][None]], dim=1)
    return ids[0], torch.stack(margins)


def stands_apart(model, input_ids, logits, generated, margins):
    """Whether the draw survives rounding, see the head of this file, and says something: neither
    one token for ever nor the one that ends a text."""
    if margins.min() < LEAST_MARGIN or 0 in generated or len(set(generated)) < LEAST_DISTINCT:
        return False
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        changed = copy.deepcopy(model)
        for tensor in changed.state_dict().values():
            tensor.mul_(1 + PERTURBATION * torch.randn(tensor.shape, generator=generator))
        difference = (results(changed, input_ids)[0] - logits).abs().max()
        if not difference < LARGEST_EFFECT:
            return False
    return True


def config_of(variant):
    """The configuration as transformers understands it."""
    config_class = getattr(transformers, variant["classes"][0])
    with tempfile.TemporaryDirectory() as folder:
        text = dict(variant["config"], **variant.get("for_transformers", {}))
        text = text.get("text_config", text)
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(text))
        return config_class.from_pretrained(folder)


def make_model(variant, config):
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return corrected(variant, getattr(transformers, variant["classes"][1])(config).float().eval())


def corrected(variant, model):
    """The model with what transformers gets wrong put right."""
    if variant.get("always_long"):
        # Since version 5, Phimoe asks for the frequencies of a sequence of no length, so it never
        # uses the long factors; Microsoft's own code does beyond the trained length.
        frequencies = ROPE_INIT_FUNCTIONS["longrope"]
        model.model.rotary_emb.rope_init_fn = lambda config: frequencies(config, seq_len=LENGTH)
    return model


def split_experts(tensors):
    """Fused experts as DeepSeek's checkpoints have them; transformers stores Mistral4's fused."""
    result = {}
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        for expert in range(tensor.shape[0] if name.endswith(FUSED_IN_MEMORY) else 0):
            prefix = f"{stem}.{expert}."
            if last == "gate_up_proj":
                gate, up = tensor[expert].chunk(2)
                result[prefix + "gate_proj.weight"] = gate
                result[prefix + "up_proj.weight"] = up
            else:
                result[prefix + "down_proj.weight"] = tensor[expert]
        if not name.endswith(FUSED_IN_MEMORY):
            result[name] = tensor
    return result


def fuse_experts(tensors):
    """The inverse of split_experts."""
    result, experts = {}, {}
    for name, tensor in tensors.items():
        parts = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name)
        if parts:
            experts.setdefault(parts[1], {}).setdefault(parts[3], {})[int(parts[2])] = tensor
        else:
            result[name] = tensor
    for stem, projections in experts.items():
        gate, up, down = (torch.stack([projections[kind][i] for i in range(len(projections[kind]))])
                          for kind in ("gate_proj", "up_proj", "down_proj"))
        result[stem + ".gate_up_proj"] = torch.cat([gate, up], dim=1)
        result[stem + ".down_proj"] = down
    return result


def hub_tensors(variant, model, seed):
    """Name -> tensor as public checkpoints have them, in bfloat16 save for corrections."""
    stored = copy.deepcopy(model).bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        stored.save_pretrained(folder)
        tensors = {}
        for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
            with safe_open(file, "pt") as opened:
                tensors.update({name: opened.get_tensor(name) for name in opened.keys()})
    if variant["config"].get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    if variant.get("unfuse"):
        tensors = split_experts(tensors)
    if model.config.model_type not in KEEPS_FUSED_NAMES:
        fused = [name for name in tensors if name.endswith(FUSED_IN_MEMORY)]
        assert not fused, f"{fused[0]} is a name of memory, not of the hub"
    rename = variant.get("rename")
    if rename:
        tensors = {rename(name): tensor for name, tensor in tensors.items()}
    for name in tensors:
        if name.endswith("e_score_correction_bias"):
            tensors[name] = tensors[name].float()
    generator = torch.Generator().manual_seed(seed + 1000)
    for name, shape in variant.get("extra_tensors", {}).items():
        tensors[name] = torch.randn(shape, generator=generator).bfloat16()
    return {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}


def reload(variant, config, tensors):
    """The model with the weights as stored, so that the reference is of what is on disk."""
    back = variant.get("rename_back", lambda name: name)
    own = {
        back(name): tensor
        for name, tensor in tensors.items() if name not in variant.get("extra_tensors", {})
    }
    if variant.get("unfuse"):
        own = fuse_experts(own)
    with tempfile.TemporaryDirectory() as folder:
        save_file(own, pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})
        (pathlib.Path(folder) / "generation_config.json").write_text(GENERATION_CONFIG)
        model_class = getattr(transformers, variant["classes"][1])
        model, info = model_class.from_pretrained(folder, config=config, dtype=torch.float32,
                                                  attn_implementation="eager",
                                                  output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], f"{kind}: {info[kind]}"
    model.config._experts_implementation = "eager"
    return corrected(variant, model.float().eval())


def make(name):
    variant = VARIANTS[name]
    config = config_of(variant)
    input_ids = torch.randint(1, SIZES["vocab_size"], (ROWS, LENGTH),
                              generator=torch.Generator().manual_seed(len(name)))
    model = make_model(variant, config)
    for seed in range(DRAWS):
        draw_weights(model, seed)
        logits, _ = results(model, input_ids)
        ids, margins = continuation(model, input_ids[0, :PROMPT])
        if stands_apart(model, input_ids, logits, ids[PROMPT:].tolist(), margins):
            break
    else:
        sys.exit(f"{name}: no draw of {DRAWS} has margins that rounding cannot cross")

    tensors = hub_tensors(variant, model, seed)
    model = reload(variant, config_of(variant), tensors)
    logits, hidden = results(model, input_ids)
    ids, margins = continuation(model, input_ids[0, :PROMPT])
    assert len(hidden) == model.config.num_hidden_layers + 1

    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(variant["config"], indent=2) + "\n")
    (folder / "generation_config.json").write_text(GENERATION_CONFIG)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    golden = {
        "input_ids": input_ids.int(),
        "logits": logits,
        "gen_ids": ids.int(),
        "gen_margin": margins,
    }
    golden.update({f"hidden.{i}": state for i, state in enumerate(hidden)})
    save_file({key: value.contiguous() for key, value in golden.items()},
              folder / "golden.safetensors",
              metadata={"dtype": "weights as stored, float32 arithmetic",
                        "transformers": transformers.__version__})
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: draw {seed}, logits' deviation {logits.std():.2f}, "
          f"least greedy margin {margins.min():.3f}, {size // 1024} KiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description="writes variants into test/data/golden")
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or sorted(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            parser.error(f"no variant {name}; there are {', '.join(sorted(VARIANTS))}")
    torch.set_num_threads(1)
    for name in names:
        make(name)


if __name__ == "__main__":
    main()
