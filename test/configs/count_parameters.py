# ===- count_parameters.py - Parameters of public configurations ---------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# Counts what a config.json of examples/configs describes, from the published definitions of the
# families and from nothing of the compiler, so that the compiler's own numbers have something to
# agree with. Counted are the weights of the text model: not the blocks that predict further tokens
# (MTP), not image encoders, not scales of quantised weights.
#
# "active" is what one token's computation reads: all of the model except experts that were not
# chosen. The embedding table and the head are counted in full in both numbers, once when they are
# the same tensor. Publishers count the active ones differently, see examples/configs/README.md, so
# both tables are also given by themselves.
#
#   python3 test/configs/count_parameters.py           rewrites examples/configs/parameters.json
#   python3 test/configs/count_parameters.py --check   compares it and the published numbers
#
# ===------------------------------------------------------------------------===#
import json
import pathlib
import sys

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / "examples/configs"

# As published (sources in README.md), what the active number leaves out, and how far the published
# number may be from an exact count relative to it: rounding, mostly.
PUBLISHED = {
    "DeepSeek-V2": ("236B", "21B", "embedding", 0.03),
    "DeepSeek-V2-Lite": ("15.7B", "2.4B", "embedding", 0.03),
    "DeepSeek-V3": ("671B", "37B", "embedding", 0.02),
    "ERNIE-4.5-21B-A3B-PT": ("21B", "3B", "embedding", 0.05),
    "ERNIE-4.5-300B-A47B-PT": ("300B", "47B", "embedding", 0.01),
    "GLM-4.5": ("355B", "32B", "embedding head", 0.01),
    "GLM-4.5-Air": ("106B", "12B", "embedding head", 0.02),
    "Kimi-K2-Instruct": ("1T", "32B", "embedding", 0.03),
    "Llama-4-Maverick-17B-128E-Instruct": ("400B", "17B", "", 0.02),
    "Llama-4-Scout-17B-16E-Instruct": ("109B", "17B", "", 0.02),
    "MiniMax-M2.5": ("230B", "10B", "embedding head", 0.03),
    "Mistral-Large-3-675B-Instruct-2512": ("673B", "39B", "embedding", 0.01),
    "Mixtral-8x22B-v0.1": ("141B", "39B", "", 0.01),
    "Mixtral-8x7B-v0.1": ("46.7B", "12.9B", "", 0.01),
    "OLMoE-1B-7B-0125-Instruct": ("6.9B", "1.3B", "", 0.02),
    "Phi-3.5-MoE-instruct": ("42B", "6.6B", "", 0.01),
    "Qwen1.5-MoE-A2.7B": ("14.3B", "2.7B", "", 0.01),
    "Qwen2-57B-A14B": ("57B", "14B", "", 0.02),
    "Qwen3-235B-A22B": ("235B", "22B", "", 0.01),
    "Qwen3-30B-A3B": ("30.5B", "3.3B", "", 0.02),
    "Qwen3-30B-A3B-FP8": ("30.5B", "3.3B", "", 0.02),
    "dbrx-instruct": ("132B", "36B", "", 0.02),
    "gpt-oss-120b": ("116.8B", "5.1B", "embedding", 0.01),
    "gpt-oss-20b": ("20.9B", "3.6B", "embedding", 0.01),
    "granite-3.1-1b-a400m": ("1.3B", "0.4B", "", 0.08),
}


class Count:
    """Sums over the layers. `shared` is read by every token, `expert` is one routed expert."""

    def __init__(self):
        self.shared = self.routed = self.chosen = 0

    def experts(self, size, number, top_k):
        self.routed += size * number
        self.chosen += size * top_k


def gated(hidden, width, bias=False):
    return 3 * hidden * width + (2 * width + hidden if bias else 0)


def grouped_attention(c, bias_qkv=False, bias_out=False, qk_norm=None):
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    kv_heads = c.get("num_key_value_heads") or heads
    head = c.get("head_dim") or hidden // heads
    q, kv = heads * head, kv_heads * head
    size = hidden * (q + 2 * kv) + q * hidden
    size += (q + 2 * kv if bias_qkv else 0) + (hidden if bias_out else 0)
    return size + {None: 0, "head": 2 * head, "whole": q + kv}[qk_norm]


def latent_attention(c):
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    rope, nope, value = c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
    rank, query_rank = c["kv_lora_rank"], c.get("q_lora_rank")
    queries = heads * (nope + rope)
    if query_rank:
        size = hidden * query_rank + query_rank + query_rank * queries
    else:
        size = hidden * queries
    size += hidden * (rank + rope) + rank + rank * heads * (nope + value)
    return size + heads * value * hidden


def deepseek(c, count, attention, correction):
    hidden, width = c["hidden_size"], c["moe_intermediate_size"]
    for layer in range(c["num_hidden_layers"]):
        count.shared += attention + 2 * hidden
        if layer < c["first_k_dense_replace"]:
            count.shared += gated(hidden, c["intermediate_size"])
            continue
        experts = c["n_routed_experts"]
        count.shared += experts * hidden + (experts if correction else 0)
        count.shared += gated(hidden, width * c["n_shared_experts"])
        count.experts(gated(hidden, width), experts, c["num_experts_per_tok"])


def count_deepseek_v2(c, count):
    deepseek(c, count, latent_attention(c), correction=False)


def count_deepseek_v3(c, count):
    deepseek(c, count, latent_attention(c), correction=True)


def count_glm4_moe(c, count):
    attention = grouped_attention(c, bias_qkv=c["attention_bias"],
                                  qk_norm="head" if c["use_qk_norm"] else None)
    deepseek(c, count, attention, correction=True)


def uniform(c, count, attention, width, experts, per_layer=0, norm=2):
    """Routed experts in every layer. `norm` is what two norms have per hidden entry."""
    hidden = c["hidden_size"]
    for _ in range(c["num_hidden_layers"]):
        count.shared += attention + norm * hidden + experts * hidden + per_layer
        count.experts(gated(hidden, width), experts, c["num_experts_per_tok"])


def count_mixtral(c, count):
    uniform(c, count, grouped_attention(c), c["intermediate_size"], c["num_local_experts"])


def count_olmoe(c, count):
    uniform(c, count, grouped_attention(c, qk_norm="whole"), c["intermediate_size"],
            c["num_experts"])


def count_minimax_m2(c, count):
    uniform(c, count, grouped_attention(c, qk_norm="whole"), c["intermediate_size"],
            c["num_local_experts"], per_layer=c["num_local_experts"])


def count_granitemoe(c, count):
    count_mixtral(c, count)


def count_phimoe(c, count):
    bias = c["attention_bias"]
    # LayerNorms have a bias; so have the last norm and the head.
    count.shared += c["hidden_size"] + (c["vocab_size"] if c["lm_head_bias"] else 0)
    uniform(c, count, grouped_attention(c, bias_qkv=bias, bias_out=bias),
            c["intermediate_size"], c["num_local_experts"], norm=4)


def count_dbrx(c, count):
    attention, experts = c["attn_config"], c["ffn_config"]
    hidden = c["d_model"]
    c.update(hidden_size=hidden, num_hidden_layers=c["n_layers"], num_attention_heads=c["n_heads"],
             num_key_value_heads=attention["kv_n_heads"], num_experts_per_tok=experts["moe_top_k"])
    uniform(c, count, grouped_attention(c), experts["ffn_hidden_size"], experts["moe_num_experts"])


def count_qwen2_moe(c, count):
    hidden, experts = c["hidden_size"], c["num_experts"]
    assert c["decoder_sparse_step"] == 1 and not c.get("mlp_only_layers")
    shared = gated(hidden, c["shared_expert_intermediate_size"]) + hidden
    uniform(c, count, grouped_attention(c, bias_qkv=True), c["moe_intermediate_size"], experts,
            per_layer=shared)


def count_qwen3_moe(c, count):
    assert c["decoder_sparse_step"] == 1 and not c.get("mlp_only_layers")
    uniform(c, count, grouped_attention(c, bias_qkv=c["attention_bias"], qk_norm="head"),
            c["moe_intermediate_size"], c["num_experts"])


def count_gpt_oss(c, count):
    hidden, width, experts = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
    attention = grouped_attention(c, bias_qkv=True, bias_out=True) + c["num_attention_heads"]
    for _ in range(c["num_hidden_layers"]):
        count.shared += attention + 2 * hidden + experts * (hidden + 1)
        count.experts(gated(hidden, width, bias=True), experts, c["num_experts_per_tok"])


def count_llama4_text(c, count):
    hidden, width, experts = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
    step = c["interleave_moe_layer_step"]
    for layer in range(c["num_hidden_layers"]):
        count.shared += grouped_attention(c) + 2 * hidden
        if (layer + 1) % step != 0:
            count.shared += gated(hidden, c["intermediate_size_mlp"])
            continue
        count.shared += experts * hidden + gated(hidden, width)
        count.experts(gated(hidden, width), experts, c["num_experts_per_tok"])


def count_ernie4_5_moe(c, count):
    hidden, width, experts = c["hidden_size"], c["moe_intermediate_size"], c["moe_num_experts"]
    assert c["moe_layer_interval"] == 1 and not c["use_bias"]
    for layer in range(c["num_hidden_layers"]):
        count.shared += grouped_attention(c) + 2 * hidden
        if not c["moe_layer_start_index"] <= layer <= c["moe_layer_end_index"]:
            count.shared += gated(hidden, c["intermediate_size"])
            continue
        count.shared += experts * (hidden + 1) + gated(hidden, width * c["moe_num_shared_experts"])
        count.experts(gated(hidden, width), experts, c["moe_k"])


def count_parameters(config):
    """{"total", "active", "embedding", "head"} of a config.json's content."""
    c = dict(config.get("text_config", config))
    kind = {"kimi_k2": "deepseek_v3"}.get(c["model_type"], c["model_type"])
    if config["architectures"] == ["MistralLarge3ForCausalLM"]:
        kind = "deepseek_v2"  # experts are chosen without a correction
    count = Count()
    globals()["count_" + kind](c, count)
    table = c["vocab_size"] * c["hidden_size"]
    head = 0 if c.get("tie_word_embeddings", False) else table
    shared = count.shared + c["hidden_size"] + table + head
    return {
        "total": shared + count.routed,
        "active": shared + count.chosen,
        "embedding": table,
        "head": head,
    }


def in_words(text):
    return float(text[:-1]) * {"T": 1e12, "B": 1e9}[text[-1]]


def describe():
    result = {}
    for name in sorted(PUBLISHED):
        total, active, left_out, tolerance = PUBLISHED[name]
        counted = count_parameters(json.loads((CONFIGS / name / "config.json").read_text()))
        result[name] = dict(counted, published_total=total, published_active=active,
                            published_active_without=left_out, tolerance=tolerance)
    return result


def disagreements(parameters):
    for name, entry in parameters.items():
        active = entry["active"]
        for part in entry["published_active_without"].split():
            active -= entry[part]
        for what, counted in (("total", entry["total"]), ("active", active)):
            published = in_words(entry["published_" + what])
            if abs(counted - published) > entry["tolerance"] * published:
                yield f"{name}: {what} {counted / 1e9:.3f}B, published {published / 1e9:.3f}B"


def main():
    parameters = describe()
    text = json.dumps(parameters, indent=2) + "\n"
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    problems = [f"{name}: no published numbers" for name in sorted(folders - set(PUBLISHED))]
    problems += disagreements(parameters)
    file = CONFIGS / "parameters.json"
    if "--check" not in sys.argv[1:]:
        file.write_text(text)
    elif file.read_text() != text:
        problems.append("parameters.json is not what this script writes")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(parameters)} configurations, {len(problems)} disagreements")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
