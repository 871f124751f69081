//===- ArtifactBuilder.cpp - Tiny models as artifacts, for tests ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Arguments of launches are written as "slab:name" and get their place when they first appear.
// Weights are made whole, in the order in which the first rank needs them, and cut for the rank
// that asks.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/artifact/ArtifactBuilder.h"

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/StepAbi.h"

#include <algorithm>
#include <cassert>
#include <map>

namespace sluice::test {
namespace {

uint64_t alignUp(uint64_t value) { return (value + 63) / 64 * 64; }

class PlanBuilder {
public:
  explicit PlanBuilder(const TinyShape &shape) : shape(shape) {
    proto::Model &m = *model.plan.mutable_model();
    m.set_name("tiny");
    m.set_family("test");
    m.set_vocab_size(uint32_t(shape.vocab));
    m.set_hidden_size(uint32_t(shape.hidden));
    m.set_num_layers(uint32_t(shape.layers));
    m.set_num_experts(uint32_t(shape.layers ? shape.experts : 0));
    m.set_top_k(uint32_t(shape.layers ? shape.topK : 0));
    m.set_bos_token_id(-1);
    m.add_eos_token_ids(0);
    proto::Limits &l = *model.plan.mutable_limits();
    l.set_max_batch_tokens(uint32_t(shape.maxBatchTokens));
    l.set_max_seqs(uint32_t(shape.maxSeqs));
    l.set_max_seq_len(uint32_t(shape.maxSeqLen));
    l.set_max_logit_rows(uint32_t(shape.maxLogitRows));
    l.set_page_size(uint32_t(shape.pageSize));
    l.set_num_pages(uint32_t(shape.numPages));
    model.plan.set_producer("test");
    model.plan.set_target("host");
    if (shape.ranks > 1) {
      proto::Parallelism &p = *model.plan.mutable_parallelism();
      p.set_tp(uint32_t(tp()));
      p.set_ep(uint32_t(shape.ep));
      p.set_dp(uint32_t(shape.dp));
      p.set_attention_tp(1);
    }
  }

  TinyModel build() {
    for (int r = 0; r < shape.ranks; ++r)
      buildRank(r);
    return std::move(model);
  }

private:
  void buildRank(int number) {
    rank = model.plan.add_ranks();
    rank->set_rank(uint32_t(number));
    model.weights.emplace_back();
    layout = SafetensorsWriter();
    weights.clear();
    cache.clear();
    for (int kind = 0; kind < 4; ++kind) {
      proto::Slab *slab = rank->add_slabs();
      slab->set_kind(proto::Slab::Kind(kind));
      slab->set_alignment(64);
    }
    auto io =
        ioBufferBytes(model.plan.limits(), model.plan.model().vocab_size(), uint32_t(shape.dp));
    assert(io.isOk());
    for (const auto &[name, bytes] : *io)
      addIo(name, bytes);
    if (shape.layers)
      addIo(abi::kIoExpertCounts, uint64_t(4 * shape.experts * shape.layers));
    for (int tokens : shape.buckets) {
      bucket = rank->add_buckets();
      bucket->set_tokens(uint32_t(tokens));
      arena.clear();
      emitProgram();
      bucket->set_live_bytes(bucket->arena_bytes());
      auto &slab = *rank->mutable_slabs(proto::Slab::ARENA);
      slab.set_bytes(std::max<uint64_t>(slab.bytes(), bucket->arena_bytes()));
    }
    rank->mutable_slabs(proto::Slab::WEIGHTS)->set_bytes(layout.dataBytes());
  }

  void addIo(const std::string &name, uint64_t bytes) {
    proto::Slab &slab = *rank->mutable_slabs(proto::Slab::IO);
    proto::IoBuffer *buffer = rank->add_io();
    buffer->set_name(name);
    buffer->set_offset(slab.bytes());
    buffer->set_bytes(bytes);
    slab.set_bytes(alignUp(slab.bytes() + bytes));
  }

  void emitProgram() {
    const TinyShape &s = shape;
    const std::string f32 = "f32";
    launch("embed", abi::EmbeddingParams{.vocab = s.vocab, .hidden = s.hidden, .format = f32},
           {"io:header", "io:token_ids", "w:embed", "a:x"});
    for (int i = 0; i < s.layers; ++i)
      emitLayer("layers." + std::to_string(i) + ".", i);
    launch("gather", abi::GatherRowsParams{.width = s.hidden},
           {"io:header", "io:logit_rows", "a:x", "a:rows"});
    if (s.dp > 1)
      exchange("gather_rows", proto::Collective::ALL_GATHER, "a:rows", "a:all_rows", logitRows());
    launch("head",
           abi::LinearParams{
               .n = s.vocab, .k = s.hidden, .format = f32, .rows = abi::RowSet::kLogitRows},
           {allHeader(), s.dp > 1 ? "a:all_rows" : "a:rows", "w:head", "", "io:logits"});
    launch("sample", abi::SampleParams{.vocab = s.vocab},
           {allHeader(), "io:logits", "io:sampling", "io:sampled_ids", "a:sample_scratch"});
  }

  int tp() const { return shape.ranks / shape.ep; }
  int ownExperts() const { return shape.experts / shape.ep; }

  /// Chooses the pairs of the experts that the rank's group holds: the first so many for the first
  /// group and so on.
  void emitAssignment(const std::string &p) {
    std::string slots;
    for (int i = 0; i < shape.experts; ++i)
      slots += std::string(i == 0 ? "" : i % ownExperts() == 0 ? ";" : ",") + std::to_string(i);
    const int group = int(rank->rank()) / tp();
    launch(p + "assign." + std::to_string(group),
           abi::AssignSlotsParams{
               .experts = shape.experts, .topK = shape.topK, .group = group, .slots = slots},
           {allHeader(), "a:ids", "a:own_offsets", "a:own_order", "a:own_inverse",
            "a:assign_scratch"});
  }

  /// Of kernels that run over the tokens of all groups.
  std::string allHeader() const { return shape.dp > 1 ? "io:global_header" : "io:header"; }
  abi::StepDims dims() const { return bucketDims(model.plan.limits(), bucket->tokens()); }
  uint64_t tokenRows() const { return uint64_t(dims().tokens); }
  uint64_t logitRows() const { return uint64_t(dims().logitRows); }

  /// Between the ranks of the same place in every group where `rows` are those of groups, else
  /// within a group.
  void exchange(const std::string &label, proto::Collective::Kind kind, const std::string &source,
                const std::string &result, uint64_t rows) {
    const bool counted = kind != proto::Collective::ALL_REDUCE;
    const uint64_t bytes = rows * uint64_t(shape.hidden) * sizeof(float);
    proto::Collective *out = bucket->add_commands()->mutable_collective();
    out->set_kind(kind);
    out->set_label(label);
    out->set_element("f32");
    place(source, bytes, out->mutable_source());
    place(result, bytes, out->mutable_result());
    const uint32_t perGroup = uint32_t(shape.ranks / shape.dp);
    const uint32_t group = rank->rank() / perGroup, member = rank->rank() % perGroup;
    for (uint32_t i = 0; i < (counted ? uint32_t(shape.dp) : perGroup); ++i)
      out->add_ranks(counted ? i * perGroup + member : group * perGroup + i);
    if (!counted)
      return;
    place(kind == proto::Collective::ALL_GATHER && label == "gather_rows" ? "io:group_logit_rows"
                                                                          : "io:group_tokens",
          4 * uint64_t(shape.dp), out->mutable_counts());
    out->set_row_elements(uint64_t(shape.hidden));
  }

  void emitGroupedAttention(const std::string &p) {
    const TinyShape &s = shape;
    const std::string f32 = "f32", k = "kv:" + p + "k", v = "kv:" + p + "v";
    launch(p + "qkv",
           abi::QkvParams{.k = s.hidden,
                          .qHeads = s.heads,
                          .kvHeads = s.kvHeads,
                          .headDim = s.headDim,
                          .valueDim = s.headDim,
                          .format = f32,
                          .rope = {.dim = s.headDim}},
           {"io:header", "io:positions", "io:token_seq", "io:kv_lengths", "io:page_table", "a:n",
            "w:" + p + "qkv", "", "", "", "w:rope", "a:q", k, v, "a:qkv_scratch"});
    launch(p + "attention",
           abi::AttentionParams{.qHeads = s.heads,
                                .kvHeads = s.kvHeads,
                                .headDim = s.headDim,
                                .valueDim = s.headDim,
                                .scale = 0.25},
           {"io:header", "io:positions", "io:token_seq", "io:seq_starts", "io:kv_lengths",
            "io:page_table", "a:q", k, v, "", "a:att", "a:att_scratch"});
  }

  void emitLatentAttention(const std::string &p) {
    const TinyShape &s = shape;
    const std::string f32 = "f32", cache = "kv:" + p + "latents";
    const int64_t dim = s.headDim;
    launch(p + "q", abi::LinearParams{.n = 2 * dim * s.heads, .k = s.hidden, .format = f32},
           {"io:header", "a:n", "w:" + p + "q", "", "a:q"});
    launch(p + "kv", abi::LinearParams{.n = 2 * dim, .k = s.hidden, .format = f32},
           {"io:header", "a:n", "w:" + p + "kv", "", "a:kv"});
    launch(p + "append",
           abi::LatentAppendParams{.latent = dim, .rotary = dim, .rope = {.dim = dim}},
           {"io:header", "io:positions", "io:token_seq", "io:kv_lengths", "io:page_table", "a:kv",
            "w:" + p + "kv_norm", "w:rope", cache});
    launch(p + "query",
           abi::LatentQueryParams{.heads = s.heads,
                                  .latent = dim,
                                  .nope = dim,
                                  .rotary = dim,
                                  .format = f32,
                                  .rope = {.dim = dim, .offset = dim}},
           {"io:header", "io:positions", "io:token_seq", "io:kv_lengths", "a:q", "w:" + p + "keys",
            "w:rope", "a:latent_q"});
    launch(p + "attention",
           abi::AbsorbedAttentionParams{.heads = s.heads,
                                        .latent = dim,
                                        .rotary = dim,
                                        .valueDim = dim,
                                        .format = f32,
                                        .scale = 0.25},
           {"io:header", "io:positions", "io:token_seq", "io:seq_starts", "io:kv_lengths",
            "io:page_table", "a:latent_q", cache, "w:" + p + "values", "a:att", "a:latents",
            "a:att_scratch"});
  }

  void emitLayer(const std::string &p, int layer) {
    const TinyShape &s = shape;
    const std::string f32 = "f32";
    launch(p + "norm", abi::NormParams{.width = s.hidden},
           {"io:header", "a:x", "w:" + p + "norm", "", "a:n"});
    if (s.latent)
      emitLatentAttention(p);
    else
      emitGroupedAttention(p);
    launch(p + "o", abi::LinearParams{.n = s.hidden, .k = s.heads * s.headDim, .format = f32},
           {"io:header", "a:att", "w:" + p + "o", "", "a:delta"});
    launch(p + "post", abi::ResidualNormParams{.width = s.hidden},
           {"io:header", "a:x", "a:delta", "w:" + p + "post", "", "a:x", "a:n"});
    const std::string n = s.dp > 1 ? "a:all_n" : "a:n", header = allHeader();
    if (s.dp > 1)
      exchange(p + "dispatch", proto::Collective::ALL_GATHER, "a:n", n, tokenRows());
    launch(
        p + "router",
        abi::RouterParams{.hidden = s.hidden, .experts = s.experts, .topK = s.topK, .format = f32},
        {header, n, "w:" + p + "router", "", "", "a:ids", "a:weights", "a:offsets", "a:order",
         "a:inverse", "io:expert_counts+" + std::to_string(4 * s.experts * layer),
         "a:router_scratch"});
    if (s.ep > 1)
      emitAssignment(p);
    const std::string own = s.ep > 1 ? "a:own_" : "a:";
    launch(
        p + "gate_up",
        abi::ExpertsGateUpParams{.experts = ownExperts(),
                                 .topK = s.topK,
                                 .n = s.expertWidth / tp(),
                                 .k = s.hidden,
                                 .format = f32,
                                 .act = {}},
        {header, n, own + "offsets", own + "order", "a:weights", "w:" + p + "gate_up", "", "a:h"});
    launch(p + "down",
           abi::ExpertsDownParams{.experts = ownExperts(),
                                  .topK = s.topK,
                                  .n = s.hidden,
                                  .k = s.expertWidth / tp(),
                                  .format = f32},
           {header, "a:h", own + "offsets", own + "order", own + "inverse", "a:weights",
            "w:" + p + "down", "", "a:moe", "a:down_scratch"});
    if (s.ranks > s.dp)
      exchange(p + "reduce", proto::Collective::ALL_REDUCE, "a:moe", "a:moe", tokenRows());
    if (s.dp > 1)
      exchange(p + "combine", proto::Collective::REDUCE_SCATTER, "a:moe", "a:own_moe", tokenRows());
    launch(p + "add", abi::ResidualParams{.width = s.hidden},
           {"io:header", "a:x", s.dp > 1 ? "a:own_moe" : "a:moe", "a:x"});
  }

  void launch(const std::string &label, const abi::FamilyParams &params,
              const std::vector<std::string> &args) {
    auto found = kernels.find(label);
    if (found == kernels.end()) {
      found = kernels.emplace(label, uint32_t(model.plan.kernels_size())).first;
      *model.plan.add_kernels() = makeKernel(label, params);
    }
    auto bytes = abi::familyArgBytes(params, dims());
    assert(bytes.isOk() && bytes->size() == args.size());
    proto::Launch *out = bucket->add_commands()->mutable_launch();
    out->set_kernel(found->second);
    out->set_label(label);
    for (size_t i = 0; i < args.size(); ++i)
      place(args[i], (*bytes)[i], out->add_args());
  }

  void place(const std::string &arg, uint64_t bytes, proto::BufferRef *out) {
    if (arg.empty())
      return;
    size_t colon = arg.find(':');
    std::string slab = arg.substr(0, colon), name = arg.substr(colon + 1);
    out->set_bytes(bytes);
    if (slab == "io") {
      size_t plus = name.find('+');
      uint64_t extra = plus == std::string::npos ? 0 : std::stoull(name.substr(plus + 1));
      name = name.substr(0, plus);
      for (const proto::IoBuffer &buffer : rank->io())
        if (buffer.name() == name)
          out->set_offset(buffer.offset() + extra);
      out->set_slab(1 + proto::Slab::IO);
    } else if (slab == "w") {
      out->set_offset(weightOffset(name, bytes));
      out->set_slab(1 + proto::Slab::WEIGHTS);
    } else if (slab == "kv") {
      proto::Slab &kv = *rank->mutable_slabs(proto::Slab::KV);
      auto [at, isNew] = cache.emplace(name, kv.bytes());
      if (isNew)
        kv.set_bytes(alignUp(kv.bytes() + bytes));
      out->set_offset(at->second);
      out->set_slab(1 + proto::Slab::KV);
    } else {
      auto [at, isNew] = arena.emplace(name, bucket->arena_bytes());
      if (isNew)
        bucket->set_arena_bytes(alignUp(bucket->arena_bytes() + bytes));
      out->set_offset(at->second);
      out->set_slab(1 + proto::Slab::ARENA);
    }
  }

  uint64_t weightOffset(const std::string &name, uint64_t bytes) {
    auto found = weights.find(name);
    if (found != weights.end())
      return found->second;
    auto count = int64_t(bytes / sizeof(float));
    auto offset = layout.declare(name, DataType::kF32, {count});
    assert(offset.isOk());
    TinyWeights &own = model.weights.back();
    own.declarations.push_back({name, DataType::kF32, {count}});
    own.values.push_back(values(name, size_t(count)));
    proto::Weight *record = rank->add_weights();
    record->set_name(name);
    record->set_layout("test");
    record->set_offset(*offset);
    record->set_bytes(bytes);
    weights.emplace(name, *offset);
    return *offset;
  }

  /// The rank's `count` values of a weight.
  std::vector<float> values(const std::string &name, size_t count) {
    const bool gateUp = name.ends_with(".gate_up"), down = name.ends_with(".down");
    std::vector<float> &whole = wholeWeights[name];
    const size_t total = gateUp || down ? count * size_t(shape.ranks) : count;
    for (whole.reserve(total); whole.size() < total;) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      whole.push_back((float(random >> 40) / float(1 << 24) - 0.5f) * 0.5f);
    }
    if (total == count)
      return whole;
    // Panels of 16 outputs follow each other: [experts][width / 16][gate, up][hidden][16] for
    // gate_up, and [experts][hidden / 16][width][16] for down, which is cut within its panels.
    const size_t parts = size_t(tp()), group = rank->rank() / parts, own = rank->rank() % parts;
    const size_t runs = size_t(gateUp ? ownExperts() : ownExperts() * shape.hidden / 16),
                 run = count / runs;
    std::vector<float> out;
    for (size_t i = group * runs; i < (group + 1) * runs; ++i) {
      auto begin = whole.begin() + ptrdiff_t((i * parts + own) * run);
      out.insert(out.end(), begin, begin + ptrdiff_t(run));
    }
    return out;
  }

  const TinyShape &shape;
  TinyModel model;
  proto::RankProgram *rank = nullptr;
  proto::Bucket *bucket = nullptr;
  SafetensorsWriter layout; ///< only to learn offsets
  std::map<std::string, uint32_t> kernels;
  std::map<std::string, uint64_t> weights, cache, arena; ///< places in the rank's slabs
  std::map<std::string, std::vector<float>> wholeWeights;
  uint64_t random = 1;
};

Status writeWeights(const TinyWeights &own, ArtifactWriter &writer) {
  SLUICE_ASSIGN_OR_RETURN(WeightsWriter * file, writer.weightsFile(own.declarations));
  for (size_t i = 0; i < own.values.size(); ++i)
    SLUICE_RETURN_IF_ERROR(file->append(own.declarations[i].name,
                                        {reinterpret_cast<const uint8_t *>(own.values[i].data()),
                                         own.values[i].size() * sizeof(float)}));
  return Status::ok();
}

} // namespace

TinyModel makeTinyModel(const TinyShape &shape) { return PlanBuilder(shape).build(); }

Status writeArtifact(const std::string &path, const TinyModel &model,
                     std::string_view tokenizerJson) {
  SLUICE_ASSIGN_OR_RETURN(ArtifactWriter writer, ArtifactWriter::begin(path));
  for (const TinyWeights &own : model.weights)
    SLUICE_RETURN_IF_ERROR(writeWeights(own, writer));
  SLUICE_RETURN_IF_ERROR(writer.addFile(kReportFile, "{\"model\": \"tiny\"}\n"));
  SLUICE_RETURN_IF_ERROR(writer.addFile("tokenizer.json", tokenizerJson));
  writer.setPlan(model.plan);
  return writer.commit();
}

} // namespace sluice::test
