//===- KernelFamilySizes.cpp - Arguments of kernel families and their sizes -===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The one place that knows how large each buffer of a launch must be. The loader trusts it to keep
// hostile artifacts inside their slabs, so every product is overflow-checked; a size that does not
// fit 63 bits fails instead of wrapping.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/StepAbi.h"
#include "runtime/quant/PackedLayout.h"

#include <algorithm>
#include <initializer_list>

namespace sluice::abi {
namespace {

constexpr uint64_t kMaxBytes = uint64_t(1) << 62;

/// Collects the sizes of one launch in calling order; errors stick.
class Sizes {
public:
  explicit Sizes(const StepDims &dims) : dims(dims) { bytes.push_back(sizeof(StepHeader)); }

  /// A buffer of `elementBytes` for each element of `shape`.
  Sizes &dense(int64_t elementBytes, std::initializer_list<int64_t> shape) {
    uint64_t total = uint64_t(elementBytes);
    for (int64_t extent : shape) {
      if (extent < 0 || __builtin_mul_overflow(total, uint64_t(extent), &total) ||
          total > kMaxBytes) {
        status = invalidArgument("argument " + std::to_string(bytes.size()) +
                                 " would exceed 2^62 bytes");
        total = 0;
        break;
      }
    }
    bytes.push_back(total);
    return *this;
  }
  Sizes &f32(std::initializer_list<int64_t> shape) { return dense(4, shape); }
  Sizes &i32(std::initializer_list<int64_t> shape) { return dense(4, shape); }
  Sizes &f32If(bool present, std::initializer_list<int64_t> shape) {
    return present ? f32(shape) : absent();
  }
  Sizes &absent() {
    bytes.push_back(0);
    return *this;
  }
  Sizes &packed(const char *layout, const std::string &format, int64_t n, int64_t k,
                int64_t blobs = 1) {
    auto parsed = quant::WeightFormat::parse(format);
    Result<uint64_t> total =
        parsed.isOk() ? quant::packedBytes(layout, *parsed, n, k, blobs) : parsed.status();
    if (!total.isOk())
      status = total.status();
    bytes.push_back(total.isOk() ? *total : 0);
    return *this;
  }
  /// Plain elements of `format`, as in an embedding table or the cache.
  Sizes &elements(const std::string &format, std::initializer_list<int64_t> shape) {
    auto parsed = quant::WeightFormat::parse(format);
    Status usable = parsed.isOk() ? quant::requireRowMajor(*parsed) : parsed.status();
    if (!usable.isOk()) {
      status = usable;
      return absent();
    }
    return dense(quant::elementBytes(parsed->element), shape);
  }

  void fail(Status error) { status = std::move(error); }

  Result<std::vector<uint64_t>> take() {
    if (!status.isOk())
      return status;
    return std::move(bytes);
  }

  const StepDims &dims;

private:
  std::vector<uint64_t> bytes;
  Status status;
};

using Args = std::vector<ArgSpec>;
constexpr ArgAccess R = ArgAccess::kRead;
constexpr ArgAccess W = ArgAccess::kWrite;
constexpr ArgAccess RW = ArgAccess::kReadWrite;
constexpr ArgAccess S = ArgAccess::kScratch;

int64_t rowsOf(RowSet rows, const StepDims &dims) {
  return rows == RowSet::kTokens ? dims.tokens : dims.logitRows;
}

//===------------------------------------------------------------------------===//
// One pair of functions per family: argument list, sizes (the header comes first in both)
//===------------------------------------------------------------------------===//

const Args &args(const EmbeddingParams &) {
  static const Args list = {{"header", R}, {"token_ids", R}, {"table", R}, {"out", W}};
  return list;
}
void sizes(const EmbeddingParams &p, Sizes &s) {
  s.i32({s.dims.tokens});
  s.elements(p.format, {p.vocab, p.hidden});
  s.f32({s.dims.tokens, p.hidden});
}

const Args &args(const NormParams &) {
  static const Args list = {{"header", R}, {"x", R}, {"weight", R}, {"bias", R}, {"out", W}};
  return list;
}
void sizes(const NormParams &p, Sizes &s) {
  int64_t rows = rowsOf(p.rows, s.dims), entries = p.groups > 0 ? p.width / p.groups : 0;
  s.f32({rows, p.width});
  s.f32If(p.kind != NormKind::kL2, {entries});
  s.f32If(p.bias, {entries});
  s.f32({rows, p.width});
}

const Args &args(const ResidualNormParams &) {
  static const Args list = {{"header", R}, {"residual", R},     {"delta", R}, {"weight", R},
                            {"bias", R},   {"residual_out", W}, {"out", W}};
  return list;
}
void sizes(const ResidualNormParams &p, Sizes &s) {
  int64_t rows = s.dims.tokens;
  s.f32({rows, p.width}).f32({rows, p.width});
  s.f32({p.width}).f32If(p.bias, {p.width});
  s.f32({rows, p.width}).f32({rows, p.width});
}

const Args &args(const ResidualParams &) {
  static const Args list = {{"header", R}, {"a", R}, {"b", R}, {"out", W}};
  return list;
}
void sizes(const ResidualParams &p, Sizes &s) {
  for (int i = 0; i < 3; ++i)
    s.f32({s.dims.tokens, p.width});
}

const Args &args(const LinearParams &) {
  static const Args list = {{"header", R}, {"x", R}, {"weight", R}, {"bias", R}, {"out", W}};
  return list;
}
void sizes(const LinearParams &p, Sizes &s) {
  int64_t rows = rowsOf(p.rows, s.dims);
  s.f32({rows, p.k}).packed("panel16", p.format, p.n, p.k);
  s.f32If(p.bias, {p.n}).f32({rows, p.n});
}

const Args &args(const FfnGateUpParams &) { return args(LinearParams()); }
void sizes(const FfnGateUpParams &p, Sizes &s) {
  s.f32({s.dims.tokens, p.k}).packed("gate_up_panel16", p.format, p.n, p.k);
  s.f32If(p.bias, {2, p.n}).f32({s.dims.tokens, p.n});
}

const Args &args(const QkvParams &) {
  static const Args list = {
      {"header", R}, {"positions", R}, {"token_seq", R}, {"kv_lengths", R}, {"page_table", R},
      {"x", R},      {"weight", R},    {"bias", R},      {"q_norm", R},     {"k_norm", R},
      {"rope", R},   {"q", W},         {"k_cache", RW},  {"v_cache", RW},   {"scratch", S}};
  return list;
}
void sizes(const QkvParams &p, Sizes &s) {
  const StepDims &d = s.dims;
  int64_t projected = p.qHeads * p.headDim + p.kvHeads * (p.headDim + p.valueDim);
  bool perHead = p.qkNorm == QkNorm::kPerHead, whole = p.qkNorm == QkNorm::kWhole;
  s.i32({d.tokens}).i32({d.tokens}).i32({d.seqs}).i32({d.seqs, d.pagesPerSeq});
  s.f32({d.tokens, p.k}).packed("panel16", p.format, projected, p.k).f32If(p.bias, {projected});
  s.f32If(perHead || whole, {whole ? p.qHeads : 1, p.headDim});
  s.f32If(perHead || whole, {whole ? p.kvHeads : 1, p.headDim});
  s.f32If(p.rope.dim > 0, {p.rope.tables, p.rope.dim / 2});
  s.f32({d.tokens, p.qHeads, p.headDim});
  s.elements(p.cacheType, {d.numPages, p.kvHeads, d.pageSize, p.headDim});
  s.elements(p.cacheType, {d.numPages, p.kvHeads, d.pageSize, p.valueDim});
  s.f32({d.tokens, projected});
}

const Args &args(const AttentionParams &) {
  static const Args list = {{"header", R},     {"positions", R},  {"token_seq", R},
                            {"seq_starts", R}, {"kv_lengths", R}, {"page_table", R},
                            {"q", R},          {"k_cache", R},    {"v_cache", R},
                            {"sinks", R},      {"out", W},        {"scratch", S}};
  return list;
}
void sizes(const AttentionParams &p, Sizes &s) {
  const StepDims &d = s.dims;
  s.i32({d.tokens}).i32({d.tokens}).i32({d.seqs + 1}).i32({d.seqs});
  s.i32({d.seqs, d.pagesPerSeq}).f32({d.tokens, p.qHeads, p.headDim});
  s.elements(p.cacheType, {d.numPages, p.kvHeads, d.pageSize, p.headDim});
  s.elements(p.cacheType, {d.numPages, p.kvHeads, d.pageSize, p.valueDim});
  s.f32If(p.sinks, {p.qHeads}).f32({d.tokens, p.qHeads, p.valueDim});
  // Of every part: the weighted sum of values, the greatest score and the sum of weights.
  s.f32({attentionPartials(d), p.qHeads, p.valueDim + 2});
}

const Args &args(const RouterParams &) {
  static const Args list = {{"header", R},     {"x", R},       {"weight", R},  {"bias", R},
                            {"correction", R}, {"ids", W},     {"weights", W}, {"offsets", W},
                            {"order", W},      {"inverse", W}, {"counts", RW}, {"scratch", S}};
  return list;
}
void sizes(const RouterParams &p, Sizes &s) {
  int64_t rows = s.dims.tokens;
  s.f32({rows, p.hidden}).packed("panel16", p.format, p.experts, p.hidden);
  s.f32If(p.bias, {p.experts}).f32If(p.correction, {p.experts});
  s.i32({rows, p.topK}).f32({rows, p.topK}).i32({p.experts + 1});
  s.i32({rows, p.topK}).i32({rows, p.topK}).i32({p.experts});
  // Two rows of E per token for logits and scores; one cursor per expert for the sort.
  s.f32({2 * rows * p.experts + p.experts + 1});
}

const Args &args(const ExpertsGateUpParams &) {
  static const Args list = {{"header", R},  {"x", R},      {"offsets", R}, {"order", R},
                            {"weights", R}, {"weight", R}, {"bias", R},    {"out", W}};
  return list;
}
void sizes(const ExpertsGateUpParams &p, Sizes &s) {
  int64_t rows = s.dims.tokens;
  s.f32({rows, p.k}).i32({p.experts + 1}).i32({rows, p.topK}).f32({rows, p.topK});
  s.packed("gate_up_panel16", p.format, p.n, p.k, p.experts);
  s.f32If(p.bias, {p.experts, 2, p.n}).f32({rows, p.topK, p.n});
}

const Args &args(const ExpertsDownParams &) {
  static const Args list = {{"header", R},  {"h", R},       {"offsets", R}, {"order", R},
                            {"inverse", R}, {"weights", R}, {"weight", R},  {"bias", R},
                            {"out", W},     {"scratch", S}};
  return list;
}
void sizes(const ExpertsDownParams &p, Sizes &s) {
  int64_t rows = s.dims.tokens;
  s.f32({rows, p.topK, p.k}).i32({p.experts + 1}).i32({rows, p.topK}).i32({rows, p.topK});
  s.f32({rows, p.topK}).packed("panel16", p.format, p.n, p.k, p.experts);
  s.f32If(p.bias, {p.experts, p.n}).f32({rows, p.n}).f32({rows, p.topK, p.n});
}

const Args &args(const GatherRowsParams &) {
  static const Args list = {{"header", R}, {"logit_rows", R}, {"x", R}, {"out", W}};
  return list;
}
void sizes(const GatherRowsParams &p, Sizes &s) {
  s.i32({s.dims.logitRows}).f32({s.dims.tokens, p.width}).f32({s.dims.logitRows, p.width});
}

const Args &args(const SampleParams &) {
  static const Args list = {
      {"header", R}, {"logits", R}, {"sampling", R}, {"sampled_ids", W}, {"scratch", S}};
  return list;
}
void sizes(const SampleParams &p, Sizes &s) {
  int64_t rows = s.dims.logitRows;
  s.f32({rows, p.vocab}).dense(sizeof(SamplingRow), {rows}).i32({rows}).dense(8, {rows, p.vocab});
}

const Args &args(const LatentQueryParams &) {
  static const Args list = {{"header", R}, {"positions", R}, {"token_seq", R}, {"kv_lengths", R},
                            {"x", R},      {"weight", R},    {"rope", R},      {"out", W}};
  return list;
}
void sizes(const LatentQueryParams &p, Sizes &s) {
  const StepDims &d = s.dims;
  s.i32({d.tokens}).i32({d.tokens}).i32({d.seqs}).f32({d.tokens, p.heads, p.nope + p.rotary});
  s.packed("panel16", p.format, p.latent, p.nope, p.heads);
  s.f32If(p.rope.dim > 0, {p.rope.tables, p.rope.dim / 2});
  s.f32({d.tokens, p.heads, p.latent + p.rotary});
}

const Args &args(const LatentAppendParams &) {
  static const Args list = {{"header", R},     {"positions", R},  {"token_seq", R},
                            {"kv_lengths", R}, {"page_table", R}, {"x", R},
                            {"norm", R},       {"rope", R},       {"cache", RW}};
  return list;
}
void sizes(const LatentAppendParams &p, Sizes &s) {
  const StepDims &d = s.dims;
  s.i32({d.tokens}).i32({d.tokens}).i32({d.seqs}).i32({d.seqs, d.pagesPerSeq});
  s.f32({d.tokens, p.latent + p.rotary}).f32({p.latent});
  s.f32If(p.rope.dim > 0, {p.rope.tables, p.rope.dim / 2});
  s.elements(p.cacheType, {d.numPages, d.pageSize, p.latent + p.rotary});
}

const Args &args(const AbsorbedAttentionParams &) {
  static const Args list = {{"header", R},     {"positions", R},  {"token_seq", R},
                            {"seq_starts", R}, {"kv_lengths", R}, {"page_table", R},
                            {"q", R},          {"cache", R},      {"weight", R},
                            {"out", W},        {"latents", S},    {"scratch", S}};
  return list;
}
void sizes(const AbsorbedAttentionParams &p, Sizes &s) {
  const StepDims &d = s.dims;
  s.i32({d.tokens}).i32({d.tokens}).i32({d.seqs + 1}).i32({d.seqs});
  s.i32({d.seqs, d.pagesPerSeq}).f32({d.tokens, p.heads, p.latent + p.rotary});
  s.elements(p.cacheType, {d.numPages, d.pageSize, p.latent + p.rotary});
  s.packed("panel16", p.format, p.valueDim, p.latent, p.heads);
  s.f32({d.tokens, p.heads, p.valueDim}).f32({d.tokens, p.heads, p.latent});
  s.f32({attentionPartials(d), p.heads, p.latent + 2});
}

const Args &args(const SigmoidGateParams &) {
  static const Args list = {{"header", R}, {"y", R}, {"x", R}, {"weight", R}, {"out", W}};
  return list;
}
void sizes(const SigmoidGateParams &p, Sizes &s) {
  int64_t rows = s.dims.tokens;
  s.f32({rows, p.width}).f32({rows, p.k}).f32({p.k}).f32({rows, p.width});
}

const Args &args(const TemperatureParams &) {
  static const Args list = {{"header", R}, {"positions", R}, {"x", R}, {"out", W}};
  return list;
}
void sizes(const TemperatureParams &p, Sizes &s) {
  s.i32({s.dims.tokens}).f32({s.dims.tokens, p.width}).f32({s.dims.tokens, p.width});
}

const Args &args(const RoundRowsParams &) {
  static const Args list = {{"header", R}, {"x", R}, {"out", W}};
  return list;
}
void sizes(const RoundRowsParams &p, Sizes &s) {
  int64_t rows = rowsOf(p.rows, s.dims);
  s.f32({rows, p.width}).f32({rows, p.width});
}

const Args &args(const AssignSlotsParams &) {
  static const Args list = {{"header", R}, {"ids", R},     {"offsets", W},
                            {"order", W},  {"inverse", W}, {"scratch", S}};
  return list;
}
void sizes(const AssignSlotsParams &p, Sizes &s) {
  auto groups = expertsOfGroups(p);
  if (!groups.isOk())
    return s.fail(groups.status());
  int64_t pairs = s.dims.tokens * p.topK, slots = 0;
  for (const std::vector<int32_t> &group : *groups)
    slots += static_cast<int64_t>(group.size());
  s.i32({pairs}).i32({int64_t((*groups)[size_t(p.group)].size()) + 1}).i32({pairs}).i32({pairs});
  // The slot of every pair; the router's own; a cursor per slot for the sort.
  s.i32({pairs + 4 * p.experts + 6 * int64_t(groups->size()) + 2 * slots});
}

/// Dimensions are bounded so that sums of products above cannot overflow before they are checked.
Status checkDims(const StepDims &dims) {
  struct Named {
    const char *name;
    int64_t value;
  };
  for (const Named &dim :
       {Named{"tokens", dims.tokens}, Named{"seqs", dims.seqs}, Named{"logit rows", dims.logitRows},
        Named{"pages per sequence", dims.pagesPerSeq}, Named{"page size", dims.pageSize},
        Named{"pages", dims.numPages}}) {
    if (dim.value < 1 || dim.value > INT32_MAX)
      return invalidArgument("the step's number of " + std::string(dim.name) + " is " +
                             std::to_string(dim.value) + ", outside [1, 2147483647]");
  }
  return Status::ok();
}

} // namespace

int64_t attentionPartials(const StepDims &dims) {
  // Enough to keep many threads busy on a batch of long sequences; see Attention.cpp.
  constexpr int64_t kEnough = 256;
  int64_t longest = dims.pagesPerSeq * dims.pageSize; // below 2^62, see checkDims()
  int64_t parts = std::max<int64_t>((longest + kAttentionSplitKeys - 1) / kAttentionSplitKeys, 1);
  return parts >= kEnough ? parts : std::min(kEnough, parts * dims.seqs);
}

const std::vector<ArgSpec> &familyArgs(const FamilyParams &params) {
  return std::visit([](const auto &family) -> const Args & { return args(family); }, params);
}

Result<std::vector<uint64_t>> familyArgBytes(const FamilyParams &params, const StepDims &dims) {
  auto compute = [&]() -> Result<std::vector<uint64_t>> {
    SLUICE_RETURN_IF_ERROR(checkDims(dims));
    Sizes out(dims);
    std::visit([&](const auto &family) { sizes(family, out); }, params);
    return out.take();
  };
  auto out = compute();
  if (!out.isOk())
    return out.status().withContext(std::string("kernel family ") + familyName(params));
  return out;
}

} // namespace sluice::abi
