//===- KernelFamilies.h - Calling conventions of kernels --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A kernel family is a calling convention: the constants a kernel is specialised with (parameters)
// and the ordered buffers it takes (arguments) with their access and their exact sizes. The
// compiler uses this table to build launches and size buffers; the loader uses it to refuse an
// artifact whose launches could touch memory out of bounds; every backend implements the families
// behind it. Parameters are one struct per family; a single `visit` lists its fields, from which
// reading, writing and range checks all derive.
//
// Notation in the comments below: T tokens of the bucket, S sequences, R logits rows, H hidden
// size, E experts, K top-k, I expert width, P pages. Activations are float32, row-major, unless
// said.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_KERNELFAMILIES_H
#define SLUICE_RUNTIME_ARTIFACT_KERNELFAMILIES_H

#include "sluice/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::abi {

/// A named constant of a kernel. The order of a kernel's parameters is the order of its fields.
using ParamValue = std::variant<int64_t, double, std::string>;
using Params = std::vector<std::pair<std::string, ParamValue>>;

/// The sizes of a step that buffer sizes depend on.
struct StepDims {
  int64_t tokens = 0;      ///< T of the bucket
  int64_t seqs = 0;        ///< S
  int64_t logitRows = 0;   ///< R
  int64_t pagesPerSeq = 0; ///< columns of the page table
  int64_t pageSize = 0;    ///< tokens per page
  int64_t numPages = 0;    ///< pages of one layer's cache
};

enum class ArgAccess : uint8_t { kRead, kWrite, kReadWrite, kScratch };

struct ArgSpec {
  const char *name;
  ArgAccess access;
};

/// Which rows of the batch a row-wise kernel handles.
enum class RowSet : int { kTokens, kLogitRows };
enum class NormKind : int { kRms, kLayer, kL2 };
enum class Activation : int { kSilu, kGelu, kGeluTanh, kRelu, kSwigluOai };
enum class ScoreFunction : int { kSoftmax, kSigmoid, kSqrtSoftplus };
enum class GroupScore : int { kNone, kMax, kTop2Sum };
enum class QkNorm : int { kNone, kPerHead, kWhole, kL2AfterRope };

/// Names of enumerators as they stand in plans and IR, in enumerator order.
template <typename Enum> struct EnumNames;
#define SLUICE_ENUM_NAMES(Enum, ...)                                                               \
  template <> struct EnumNames<Enum> { static constexpr const char *values[] = {__VA_ARGS__}; };
SLUICE_ENUM_NAMES(RowSet, "tokens", "logit_rows")
SLUICE_ENUM_NAMES(NormKind, "rms", "layer", "l2")
SLUICE_ENUM_NAMES(Activation, "silu", "gelu", "gelu_tanh", "relu", "swiglu_oai")
SLUICE_ENUM_NAMES(ScoreFunction, "softmax", "sigmoid", "sqrt_softplus")
SLUICE_ENUM_NAMES(GroupScore, "none", "max", "top2_sum")
SLUICE_ENUM_NAMES(QkNorm, "none", "per_head", "whole", "l2_after_rope")
#undef SLUICE_ENUM_NAMES

/// out[T,H] = table[token_ids] * multiplier. The table is row-major [vocab, H].
struct EmbeddingParams {
  int64_t vocab = 0, hidden = 0;
  std::string format = "bf16";
  double multiplier = 1;
  template <typename V> void visit(V &v) {
    v("vocab", vocab), v("hidden", hidden), v("format", format), v("multiplier", multiplier);
  }
};

/// Row-wise normalisation of `groups` equal parts of each row: groups = 1 over the whole row,
/// groups = heads for a per-head norm (the weight then has width / groups entries). Kind l2 divides
/// by the root mean square without a weight.
struct NormParams {
  NormKind kind = NormKind::kRms;
  RowSet rows = RowSet::kTokens;
  int64_t width = 0, groups = 1;
  double eps = 1e-5;
  bool bias = false;
  template <typename V> void visit(V &v) {
    v("kind", kind), v("rows", rows), v("width", width), v("groups", groups), v("eps", eps),
        v("bias", bias);
  }
};

/// residual_out = residual + multiplier * delta; out = norm(residual_out).
/// residual_out may be the same buffer as residual.
struct ResidualNormParams {
  NormKind kind = NormKind::kRms;
  int64_t width = 0;
  double eps = 1e-5;
  double multiplier = 1;
  bool bias = false;
  template <typename V> void visit(V &v) {
    v("kind", kind), v("width", width), v("eps", eps), v("multiplier", multiplier), v("bias", bias);
  }
};

/// out = a + multiplier * b, [T, width].
struct ResidualParams {
  int64_t width = 0;
  double multiplier = 1;
  template <typename V> void visit(V &v) { v("width", width), v("multiplier", multiplier); }
};

/// out[rows, n] = softcap(scale * (x[rows, k] · W[n, k]^T + bias)); W in the packed layout of
/// `format` (runtime/quant/PackedLayout.h). softcap 0 = none, else c * tanh(v / c).
struct LinearParams {
  int64_t n = 0, k = 0;
  std::string format = "bf16";
  RowSet rows = RowSet::kTokens;
  bool bias = false;
  double scale = 1, softcap = 0;
  template <typename V> void visit(V &v) {
    v("n", n), v("k", k), v("format", format), v("rows", rows), v("bias", bias), v("scale", scale),
        v("softcap", softcap);
  }
};

/// The gated activation shared by dense and expert feed-forward parts. silu/gelu/...: act(g) * u.
/// swiglu_oai: g = min(g, limit), u = clamp(u, ±limit), (u + 1) * g * sigmoid(alpha * g).
/// limit 0 = no clamp.
struct GatedActivation {
  Activation kind = Activation::kSilu;
  double alpha = 1, limit = 0;
  template <typename V> void visit(V &v) {
    v("activation", kind), v("alpha", alpha), v("limit", limit);
  }
};

/// out[T, n] = act(x · G^T, x · U^T) for a dense feed-forward part; the packed weight holds gate
/// and up panels alternating.
struct FfnGateUpParams {
  int64_t n = 0, k = 0;
  std::string format = "bf16";
  bool bias = false;
  GatedActivation act;
  template <typename V> void visit(V &v) {
    v("n", n), v("k", k), v("format", format), v("bias", bias);
    act.visit(v);
  }
};

/// How positions rotate q and k. dim = 0: no rotation. Applies to `dim` entries of every head
/// starting at `offset`; frequencies are a table [tables, dim / 2] computed by the compiler;
/// tables = 2 chooses the second one for sequences longer than `switchLength` (LongRoPE).
/// `magnitude` multiplies cos and sin (YaRN's attention factor).
struct RopeParams {
  int64_t dim = 0, offset = 0;
  bool interleaved = false;
  int64_t tables = 1, switchLength = 0;
  double magnitude = 1;
  template <typename V> void visit(V &v) {
    v("rope_dim", dim), v("rope_offset", offset), v("rope_interleaved", interleaved),
        v("rope_tables", tables), v("rope_switch_length", switchLength),
        v("rope_magnitude", magnitude);
  }
};

/// Projects to q, k and v (weight rows in that order), adds bias, normalises q and k per head or
/// over the whole projection, clamps to ±clip (0 = no clamp; after the norm, as OLMoE does; no
/// other family has both), rotates q and k by float32(position) * frequency, scales q by the
/// position temperature 1 + tempScale * ln(1 + floor((pos + 1) / tempFloor)) when tempFloor > 0,
/// writes q[T, qHeads * headDim] and stores k and v in the paged cache
/// [pages, kvHeads, pageSize, headDim | valueDim].
struct QkvParams {
  int64_t k = 0, qHeads = 0, kvHeads = 0, headDim = 0, valueDim = 0;
  std::string format = "bf16", cacheType = "f32";
  bool bias = false;
  double clip = 0;
  QkNorm qkNorm = QkNorm::kNone;
  double eps = 1e-6;
  RopeParams rope;
  double tempScale = 0, tempFloor = 0;
  template <typename V> void visit(V &v) {
    v("k", k), v("q_heads", qHeads), v("kv_heads", kvHeads), v("head_dim", headDim),
        v("value_dim", valueDim), v("format", format), v("cache_type", cacheType), v("bias", bias),
        v("clip", clip), v("qk_norm", qkNorm), v("eps", eps);
    rope.visit(v);
    v("temp_scale", tempScale), v("temp_floor", tempFloor);
  }
};

/// Causal attention of q against the paged cache. window > 0: a query sees that many latest
/// positions, itself included; chunk > 0: only positions of its own chunk. softcap as in Linear.
/// sinks: one extra logit per head that takes part in the softmax and is dropped.
struct AttentionParams {
  int64_t qHeads = 0, kvHeads = 0, headDim = 0, valueDim = 0;
  std::string cacheType = "f32";
  double scale = 1, softcap = 0;
  int64_t window = 0, chunk = 0;
  bool sinks = false;
  template <typename V> void visit(V &v) {
    v("q_heads", qHeads), v("kv_heads", kvHeads), v("head_dim", headDim), v("value_dim", valueDim),
        v("cache_type", cacheType), v("scale", scale), v("softcap", softcap), v("window", window),
        v("chunk", chunk), v("sinks", sinks);
  }
};

/// Router: logits = x · W^T (+ bias), scores, choice of top-k, weights, and the expert-major order
/// of the chosen (token, choice) pairs. Every published rule is a point of this space:
/// - score over all experts (scoreFirst) or softmax over the chosen logits (!scoreFirst);
/// - correction: a bias added for the choice only;
/// - groups > 1: groups are ranked by groupScore, the best topkGroup kept, others excluded;
/// - renormalize: weights divided by (sum + epsilon); then multiplied by `scale`;
/// - sparseMixer: Phi's rule with jitter (top_k must be 2), scores and renormalize ignored.
/// Pair p = token * topK + choice. Outputs: ids int32 [T,K], weights f32 [T,K], offsets int32
/// [E+1], order int32 [T*K] (pairs sorted by expert, stable), inverse int32 [T*K] (row of each pair
/// in order).
struct RouterParams {
  int64_t hidden = 0, experts = 0, topK = 0;
  std::string format = "bf16";
  bool bias = false, correction = false;
  ScoreFunction score = ScoreFunction::kSoftmax;
  bool scoreFirst = true, renormalize = true;
  double epsilon = 0, scale = 1;
  int64_t groups = 1, topkGroup = 1;
  GroupScore groupScore = GroupScore::kNone;
  bool sparseMixer = false;
  double jitter = 0;
  template <typename V> void visit(V &v) {
    v("hidden", hidden), v("experts", experts), v("top_k", topK), v("format", format),
        v("bias", bias), v("correction", correction), v("score", score),
        v("score_first", scoreFirst), v("renormalize", renormalize), v("epsilon", epsilon),
        v("scale", scale), v("groups", groups), v("topk_group", topkGroup),
        v("group_score", groupScore), v("sparse_mixer", sparseMixer), v("jitter", jitter);
  }
};

/// out[T*K, n] (expert-major rows) = act(x · G_e^T, x · U_e^T). weightOnInput multiplies x by the
/// pair's weight before the product (Llama 4).
struct ExpertsGateUpParams {
  int64_t experts = 0, topK = 0, n = 0, k = 0;
  std::string format = "bf16";
  bool bias = false, weightOnInput = false;
  GatedActivation act;
  template <typename V> void visit(V &v) {
    v("experts", experts), v("top_k", topK), v("n", n), v("k", k), v("format", format),
        v("bias", bias), v("weight_on_input", weightOnInput);
    act.visit(v);
  }
};

/// out[T, n] = Σ over the K choices of weight * (h · D_e^T + bias), summed in the order of choices;
/// weightOnInput: weights are taken as 1. A pair whose `inverse` is negative adds nothing here.
struct ExpertsDownParams {
  int64_t experts = 0, topK = 0, n = 0, k = 0;
  std::string format = "bf16";
  bool bias = false, weightOnInput = false;
  template <typename V> void visit(V &v) {
    v("experts", experts), v("top_k", topK), v("n", n), v("k", k), v("format", format),
        v("bias", bias), v("weight_on_input", weightOnInput);
  }
};

/// Chooses a replica for every pair of a router (placement/ReplicaRouter.h) and orders those that
/// fell to `group` by its slots: offsets int32 [own slots + 1], order int32 [T*K] (its front part),
/// inverse int32 [T*K] (row of each pair in order, or -1 for pairs of other groups). `slots` lists
/// the experts of each group's slots, "0,1,2;3,2": at most kMaxSlots in all, no expert twice in a
/// group, every expert somewhere. A step whose header counts as many sequences as tokens is a
/// decode step.
inline constexpr size_t kMaxSlots = size_t(1) << 16;
struct AssignSlotsParams {
  int64_t experts = 0, topK = 0, group = 0;
  std::string slots;
  template <typename V> void visit(V &v) {
    v("experts", experts), v("top_k", topK), v("group", group), v("slots", slots);
  }
};

/// The experts in the slots of every group, checked as AssignSlotsParams says: kInvalidArgument
/// otherwise. `experts` must have been checked before.
Result<std::vector<std::vector<int32_t>>> expertsOfGroups(const AssignSlotsParams &params);

/// out[R, width] = x[logit_rows].
struct GatherRowsParams {
  int64_t width = 0;
  template <typename V> void visit(V &v) { v("width", width); }
};

/// sampled_ids[R] from logits[R, vocab] by each row's SamplingRow.
struct SampleParams {
  int64_t vocab = 0;
  template <typename V> void visit(V &v) { v("vocab", vocab); }
};

/// Queries of latent attention (DeepSeek-V2, 2024, section 2.1) in the form that attends to the
/// latents themselves: per head [nope | rotary] becomes [nope · W[head]^T | rotated rotary], where
/// W[head] [latent, nope] is the transposed key half of the expansion. x [T, heads * (nope +
/// rotary)], weight heads blobs of [latent, nope], out [T, heads * (latent + rotary)]. The rotation
/// stays within the rotary part: its offset counts from the head and is at least `nope`.
struct LatentQueryParams {
  int64_t heads = 0, latent = 0, nope = 0, rotary = 0;
  std::string format = "bf16";
  RopeParams rope;
  template <typename V> void visit(V &v) {
    v("heads", heads), v("latent", latent), v("nope", nope), v("rotary", rotary),
        v("format", format);
    rope.visit(v);
  }
};

/// Normalises the latent part of x [T, latent + rotary] (RMS, weight [latent]), rotates the rotary
/// part (the rotation's offset counts from it) and stores both in the paged latent cache
/// [pages, pageSize, latent + rotary].
struct LatentAppendParams {
  int64_t latent = 0, rotary = 0;
  std::string cacheType = "f32";
  double eps = 1e-6;
  RopeParams rope;
  template <typename V> void visit(V &v) {
    v("latent", latent), v("rotary", rotary), v("cache_type", cacheType), v("eps", eps);
    rope.visit(v);
  }
};

/// Causal attention of all heads of q [T, heads * (latent + rotary)] to the one key per position of
/// a latent cache, whose first `latent` entries are the values as well; then per head the sum of
/// latents times W[head]^T, where W[head] [valueDim, latent] is the value half of the expansion.
/// out [T, heads * valueDim].
struct AbsorbedAttentionParams {
  int64_t heads = 0, latent = 0, rotary = 0, valueDim = 0;
  std::string format = "bf16", cacheType = "f32";
  double scale = 1;
  template <typename V> void visit(V &v) {
    v("heads", heads), v("latent", latent), v("rotary", rotary), v("value_dim", valueDim),
        v("format", format), v("cache_type", cacheType), v("scale", scale);
  }
};

/// out[T, width] = y * sigmoid(x · w), with x [T, k] and w [k].
struct SigmoidGateParams {
  int64_t width = 0, k = 0;
  template <typename V> void visit(V &v) { v("width", width), v("k", k); }
};

/// out[T, width] = x * (1 + scale * ln(1 + floor((position + offset) / floor))), the tuning of the
/// attention's temperature by the query's position where no other kernel does it.
struct TemperatureParams {
  int64_t width = 0;
  double scale = 0, floor = 1;
  int64_t offset = 0;
  template <typename V> void visit(V &v) {
    v("width", width), v("scale", scale), v("floor", floor), v("offset", offset);
  }
};

/// out[rows, width] = x with every number rounded to E4M3 times a scale that `format`
/// ("f8e4m3:group128") shares over neighbours of a row, chosen in the step: largest magnitude /
/// 448. What tensor cores multiply, as float32. Groups of zeros stay zero.
struct RoundRowsParams {
  int64_t width = 0;
  std::string format = "f8e4m3:group128";
  RowSet rows = RowSet::kTokens;
  template <typename V> void visit(V &v) {
    v("width", width), v("format", format), v("rows", rows);
  }
};

/// Every family, with its name in plans. Arguments in calling order; those in [brackets] are absent
/// (slab 0) unless a parameter asks for them:
///   embedding           header, token_ids, table, out
///   norm                header, x, [weight], [bias], out
///   residual_norm       header, residual, delta, weight, [bias], residual_out, out
///   residual            header, a, b, out
///   linear              header, x, weight, [bias], out
///   ffn_gate_up         header, x, weight, [bias], out
///   qkv                 header, positions, token_seq, kv_lengths, page_table, x, weight, [bias],
///                       [q_norm], [k_norm], [rope], q, k_cache, v_cache, scratch
///   attention           header, positions, token_seq, seq_starts, kv_lengths, page_table, q,
///                       k_cache, v_cache, [sinks], out, scratch
///   router              header, x, weight, [bias], [correction], ids, weights, offsets, order,
///                       inverse, counts, scratch
///   experts_gate_up     header, x, offsets, order, weights, weight, [bias], out
///   experts_down        header, h, offsets, order, inverse, weights, weight, [bias], out, scratch
///   assign_slots        header, ids, offsets, order, inverse, scratch
///   gather_rows         header, logit_rows, x, out
///   sample              header, logits, sampling, sampled_ids, scratch
///   latent_query        header, positions, token_seq, kv_lengths, x, weight, [rope], out
///   latent_append       header, positions, token_seq, kv_lengths, page_table, x, norm, [rope],
///                       cache
///   absorbed_attention  header, positions, token_seq, seq_starts, kv_lengths, page_table, q,
///                       cache, weight, out, latents, scratch
///   sigmoid_gate        header, y, x, weight, out
///   temperature         header, positions, x, out
///   round_rows          header, x, out
/// Biases are float32; a gate_up bias is [2, n] per expert: gate then up. counts is uint32 [E], to
/// which the router adds the tokens each expert received. Scratch contents are the kernel's own
/// business; its size is part of the convention: qkv f32 [T, all projected rows]; attention f32
/// [attentionPartials(dims), qHeads, valueDim + 2]; router f32 [2, T,
/// E] and int32 [E + 1]; experts_down f32 [T*K, n]; sample 8 bytes for each of [R, vocab];
/// absorbed_attention f32 latents [T, heads, latent] and scratch [attentionPartials(dims), heads,
/// latent + 2]; assign_slots int32 [T*K + 4 * experts + 6 * groups + 2 * slots of all groups].
using FamilyParams =
    std::variant<EmbeddingParams, NormParams, ResidualNormParams, ResidualParams, LinearParams,
                 FfnGateUpParams, QkvParams, AttentionParams, RouterParams, ExpertsGateUpParams,
                 ExpertsDownParams, GatherRowsParams, SampleParams, LatentQueryParams,
                 LatentAppendParams, AbsorbedAttentionParams, SigmoidGateParams, TemperatureParams,
                 AssignSlotsParams, RoundRowsParams>;

/// One entry per family, with default parameters, in the order of FamilyParams.
std::vector<FamilyParams> allFamilies();

/// The family's name in plans and IR.
const char *familyName(const FamilyParams &params);

/// Writes the parameters as named constants, in field order.
Params toParams(const FamilyParams &params);

/// Parses and range-checks named constants, in any order; every field must be present and nothing
/// else. Booleans are the integers 0 and 1, enumerators their names. Fails with kInvalidArgument,
/// or with kUnsupported for a format that this build knows but cannot store.
Result<FamilyParams> fromParams(std::string_view family, const Params &params);

/// The family's arguments in calling order.
const std::vector<ArgSpec> &familyArgs(const FamilyParams &params);

/// Long contexts are attended to in parts of this many keys, at absolute positions, whose results
/// are merged: results then depend neither on threads nor on the batch.
inline constexpr int64_t kAttentionSplitKeys = 512;

/// Partial results of (token, part) that the attention family's scratch holds: all parts of one
/// longest sequence, or those of several shorter ones up to a bound.
int64_t attentionPartials(const StepDims &dims);

/// The exact bytes of every argument for a bucket, in calling order; 0 = the argument must be
/// absent. Fails when a dimension is not positive, a size overflows or a format is unknown.
Result<std::vector<uint64_t>> familyArgBytes(const FamilyParams &params, const StepDims &dims);

} // namespace sluice::abi

#endif // SLUICE_RUNTIME_ARTIFACT_KERNELFAMILIES_H
