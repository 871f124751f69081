//===- PlanValidator.cpp - Is a decoded plan safe to run? -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// From the whole plan inwards: PlanChecker (limits, parallelism, kernels, ranks) and RankChecker
// (slabs, weights, IO, buckets); ProgramValidator.cpp has the commands of one bucket and
// CollectiveOrder.cpp what only all ranks together show. The first problem ends the check.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/PlanValidator.h"

#include "runtime/artifact/CollectiveOrder.h"
#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/ProgramValidator.h"
#include "runtime/artifact/StepAbi.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace sluice {
namespace {

using namespace validation;

constexpr uint64_t kMaxBatchTokens = uint64_t(1) << 20;
constexpr uint64_t kMaxSeqs = uint64_t(1) << 16;
constexpr uint64_t kMaxVocab = uint64_t(1) << 26;
constexpr uint64_t kMaxSeqLen = uint64_t(1) << 30;
constexpr uint64_t kMaxPageSize = uint64_t(1) << 16;
constexpr uint64_t kMaxCount = INT32_MAX; ///< of anything the engine counts in an int
constexpr uint64_t kMaxSlabBytes = uint64_t(1) << 50;
constexpr uint64_t kMaxSlabAlignment = uint64_t(2) << 20;
constexpr int kMaxRanks = 4096, kMaxKernels = 1 << 16, kMaxBuckets = 1024;
//===------------------------------------------------------------------------===//
// One rank
//===------------------------------------------------------------------------===//

class RankChecker {
public:
  RankChecker(const proto::Plan &plan, const std::vector<abi::FamilyParams> &kernels,
              const proto::RankProgram &rank, const proto::WeightsFile &file,
              const WeightsFacts &facts)
      : plan(plan), kernels(kernels), rank(rank), file(file), facts(facts) {}

  Status check() {
    SLUICE_RETURN_IF_ERROR(checkWeightsFile());
    SLUICE_RETURN_IF_ERROR(checkSlabs());
    SLUICE_RETURN_IF_ERROR(checkWeights());
    SLUICE_RETURN_IF_ERROR(checkIo());
    return checkBuckets();
  }

private:
  Status checkWeightsFile() const {
    std::string name = "weights file " + quoteName(file.file());
    if (facts.header && file.bytes() != facts.fileBytes)
      return dataCorrupt(name + " has " + number(facts.fileBytes) + " bytes, but the plan says " +
                         number(file.bytes()));
    if (file.data_start() > file.bytes())
      return dataCorrupt(name + ": its data section begins at " + number(file.data_start()) +
                         ", past its " + number(file.bytes()) + " bytes");
    if (facts.header && file.data_start() != facts.header->dataStart())
      return dataCorrupt(name + ": its data section begins at " +
                         number(facts.header->dataStart()) + ", but the plan says " +
                         number(file.data_start()));
    if (file.sha256().size() != sizeof(Sha256Digest))
      return dataCorrupt(name + ": its sha256 has " + number(file.sha256().size()) +
                         " bytes, not 32");
    if (file.chunk_bytes() == 0)
      return dataCorrupt(name + ": chunk_bytes is 0");
    uint64_t chunks = file.bytes() / file.chunk_bytes() + (file.bytes() % file.chunk_bytes() != 0);
    if (static_cast<uint64_t>(file.chunk_sha256_size()) != chunks)
      return dataCorrupt(name + " has " + number(chunks) + " chunks of " +
                         number(file.chunk_bytes()) + " bytes, but the plan has " +
                         std::to_string(file.chunk_sha256_size()) + " hashes");
    for (const std::string &hash : file.chunk_sha256())
      if (hash.size() != sizeof(Sha256Digest))
        return dataCorrupt(name + ": a chunk's sha256 has " + number(hash.size()) +
                           " bytes, not 32");
    return Status::ok();
  }

  Status checkSlabs() {
    int *places[] = {&layout.weights, &layout.kv, &layout.arena, &layout.io};
    for (int i = 0; i < rank.slabs_size(); ++i) {
      const proto::Slab &slab = rank.slabs(i);
      std::string what = "slab " + std::to_string(i);
      if (slab.kind() < 0 || slab.kind() > proto::Slab::IO)
        return dataCorrupt(what + " is of a kind this runtime does not know");
      what += std::string(" (") + slabName(slab.kind()) + ")";
      if (*places[slab.kind()] >= 0)
        return dataCorrupt(what + ": a rank has one slab of each kind");
      *places[slab.kind()] = i;
      SLUICE_RETURN_IF_ERROR(checkRange(what + ": bytes", slab.bytes(), 0, kMaxSlabBytes));
      uint64_t alignment = slab.alignment();
      if ((alignment & (alignment - 1)) != 0 || alignment < kArgAlignment ||
          alignment > kMaxSlabAlignment)
        return dataCorrupt(what + ": alignment " + number(alignment) +
                           " is not a power of two in [64, 2097152]");
      layout.slabs.push_back(&slab);
    }
    if (layout.io < 0)
      return dataCorrupt("has no io slab");
    if (layout.weights >= 0) {
      const proto::Slab &slab = *layout.slabs[static_cast<size_t>(layout.weights)];
      uint64_t data = file.bytes() - file.data_start();
      if (slab.bytes() > data)
        return dataCorrupt("slab " + std::to_string(layout.weights) +
                           " (weights): " + number(slab.bytes()) + " bytes exceed the " +
                           number(data) + " data bytes of " + quoteName(file.file()));
      // The slab is the mapped file: its alignment is that of the data section in a page.
      if (slab.alignment() > kSafetensorsAlignment || file.data_start() % slab.alignment() != 0)
        return dataCorrupt("slab " + std::to_string(layout.weights) +
                           " (weights): the data section of " + quoteName(file.file()) +
                           " at offset " + number(file.data_start()) + " is not aligned to " +
                           number(slab.alignment()) + " bytes");
    }
    return Status::ok();
  }

  Status checkWeights() {
    if (rank.weights_size() > 0 && layout.weights < 0)
      return dataCorrupt("has weights, but no weights slab");
    std::set<std::string_view> names;
    for (const proto::Weight &weight : rank.weights()) {
      std::string what = "weight " + quoteName(weight.name());
      if (!names.insert(weight.name()).second)
        return dataCorrupt(what + " appears twice");
      if (facts.header)
        SLUICE_RETURN_IF_ERROR(checkTensor(weight).withContext(what));
      uint64_t slabBytes = layout.slabs[static_cast<size_t>(layout.weights)]->bytes();
      if (!fits(weight.offset(), weight.bytes(), slabBytes))
        return dataCorrupt(what + ": offset " + number(weight.offset()) + ", size " +
                           number(weight.bytes()) + " exceed the weights slab's " +
                           number(slabBytes) + " bytes");
      if (weight.bytes() > 0)
        layout.weightRanges.push_back({layout.weights, weight.offset(), weight.bytes()});
    }
    std::sort(layout.weightRanges.begin(), layout.weightRanges.end(),
              [](const Range &a, const Range &b) { return a.offset < b.offset; });
    return Status::ok();
  }

  /// A weight's record against the header of its file.
  Status checkTensor(const proto::Weight &weight) const {
    const SafetensorsTensor *tensor = facts.header->find(weight.name());
    if (!tensor)
      return dataCorrupt("is not in " + quoteName(file.file()));
    if (weight.offset() != tensor->offset - file.data_start() || weight.bytes() != tensor->bytes)
      return dataCorrupt("offset " + number(weight.offset()) + ", size " + number(weight.bytes()) +
                         " differ from offset " + number(tensor->offset - file.data_start()) +
                         ", size " + number(tensor->bytes) + " in " + quoteName(file.file()));
    return Status::ok();
  }

  Status checkIo() {
    const proto::Slab &slab = *layout.slabs[static_cast<size_t>(layout.io)];
    for (const proto::IoBuffer &buffer : rank.io()) {
      std::string what = "io buffer " + quoteName(buffer.name());
      if (!fits(buffer.offset(), buffer.bytes(), slab.bytes()))
        return dataCorrupt(what + ": offset " + number(buffer.offset()) + ", size " +
                           number(buffer.bytes()) + " exceed the io slab's " +
                           number(slab.bytes()) + " bytes");
      if (buffer.offset() % kArgAlignment != 0)
        return dataCorrupt(what + ": offset " + number(buffer.offset()) +
                           " is not a multiple of 64");
      Range range{layout.io, buffer.offset(), buffer.bytes()};
      for (const auto &[name, other] : layout.ioBuffers)
        if (range.overlaps(other))
          return dataCorrupt(what + " overlaps io buffer " + quoteName(name));
      if (!layout.ioBuffers.emplace(buffer.name(), range).second)
        return dataCorrupt(what + " appears twice");
      if (layout.ioBuffers.size() > kMaxIoBuffers)
        return dataCorrupt("has more than " + number(kMaxIoBuffers) + " io buffers");
    }
    auto expected = ioBufferBytes(plan.limits(), plan.model().vocab_size(), dpGroups(plan));
    if (!expected.isOk())
      return asCorrupt(expected.status());
    for (const auto &[name, bytes] : *expected) {
      auto found = layout.ioBuffers.find(std::string_view(name));
      if (found == layout.ioBuffers.end())
        return dataCorrupt("io buffer \"" + std::string(name) + "\" is missing");
      if (found->second.bytes != bytes)
        return dataCorrupt("io buffer \"" + std::string(name) + "\" has " +
                           number(found->second.bytes) + " bytes; the plan's limits ask for " +
                           number(bytes));
    }
    return checkExpertCounts();
  }

  /// A table of uint32 [MoE layers, experts], when there are experts at all.
  Status checkExpertCounts() const {
    auto found = layout.ioBuffers.find(std::string_view(abi::kIoExpertCounts));
    if (found == layout.ioBuffers.end())
      return Status::ok();
    uint64_t row = 4 * uint64_t(plan.model().num_experts());
    if (row == 0 || found->second.bytes % row != 0 || found->second.bytes / row > kMaxCount)
      return dataCorrupt("io buffer \"expert_counts\" has " + number(found->second.bytes) +
                         " bytes, not a multiple of 4 for each of " +
                         number(plan.model().num_experts()) + " experts");
    return Status::ok();
  }

  Status checkBuckets() const {
    if (rank.buckets_size() == 0 || rank.buckets_size() > kMaxBuckets)
      return outside("the number of buckets", static_cast<uint64_t>(rank.buckets_size()), 1,
                     kMaxBuckets);
    uint64_t arenaBytes =
        layout.arena < 0 ? 0 : layout.slabs[static_cast<size_t>(layout.arena)]->bytes();
    uint32_t previous = 0;
    for (const proto::Bucket &bucket : rank.buckets()) {
      std::string context = "bucket " + number(bucket.tokens());
      if (bucket.tokens() <= previous)
        return dataCorrupt(context + " follows bucket " + number(previous) +
                           "; token counts must ascend from 1");
      previous = bucket.tokens();
      if (bucket.tokens() > plan.limits().max_batch_tokens())
        return dataCorrupt(context + " exceeds max_batch_tokens " +
                           number(plan.limits().max_batch_tokens()));
      if (bucket.arena_bytes() > arenaBytes)
        return dataCorrupt(context + ": arena_bytes " + number(bucket.arena_bytes()) +
                           " exceed the arena slab's " + number(arenaBytes) + " bytes");
      if (bucket.live_bytes() > bucket.arena_bytes())
        return dataCorrupt(context + ": live_bytes " + number(bucket.live_bytes()) +
                           " exceed its arena_bytes " + number(bucket.arena_bytes()));
      SLUICE_RETURN_IF_ERROR(
          validateProgram(plan, kernels, layout, rank.rank(), bucket).withContext(context));
    }
    if (previous != plan.limits().max_batch_tokens())
      return dataCorrupt("the largest bucket has " + number(previous) +
                         " tokens, but max_batch_tokens is " +
                         number(plan.limits().max_batch_tokens()));
    return Status::ok();
  }

  static constexpr size_t kMaxIoBuffers = 64;

  const proto::Plan &plan;
  const std::vector<abi::FamilyParams> &kernels;
  const proto::RankProgram &rank;
  const proto::WeightsFile &file;
  const WeightsFacts &facts;
  RankLayout layout;
};

//===------------------------------------------------------------------------===//
// The whole plan
//===------------------------------------------------------------------------===//

class PlanChecker {
public:
  PlanChecker(const proto::Plan &plan, std::span<const WeightsFacts> weights)
      : plan(plan), weights(weights) {}

  Result<std::vector<abi::FamilyParams>> check() {
    SLUICE_RETURN_IF_ERROR(checkModel().withContext("model"));
    SLUICE_RETURN_IF_ERROR(checkLimits().withContext("limits"));
    SLUICE_RETURN_IF_ERROR(checkKernels());
    if (plan.ranks_size() < 1 || plan.ranks_size() > kMaxRanks)
      return outside("the number of ranks", static_cast<uint64_t>(plan.ranks_size()), 1, kMaxRanks);
    SLUICE_RETURN_IF_ERROR(checkParallelism().withContext("parallelism"));
    if (plan.weights_files_size() != plan.ranks_size() ||
        weights.size() != static_cast<size_t>(plan.ranks_size()))
      return dataCorrupt("has " + std::to_string(plan.weights_files_size()) +
                         " weights files for " + std::to_string(plan.ranks_size()) + " ranks");
    for (int i = 0; i < plan.ranks_size(); ++i) {
      std::string context = "rank " + std::to_string(i);
      if (plan.ranks(i).rank() != static_cast<uint32_t>(i))
        return dataCorrupt(context + " is numbered " + number(plan.ranks(i).rank()) +
                           "; ranks must be in order");
      SLUICE_RETURN_IF_ERROR(checkSameBuckets(plan.ranks(i)).withContext(context));
      RankChecker checker(plan, kernels, plan.ranks(i), plan.weights_files(i),
                          weights[static_cast<size_t>(i)]);
      SLUICE_RETURN_IF_ERROR(checker.check().withContext(context).at({.rank = i}));
    }
    SLUICE_RETURN_IF_ERROR(checkCollectiveOrder(plan));
    return std::move(kernels);
  }

private:
  Status checkModel() const {
    const proto::Model &m = plan.model();
    SLUICE_RETURN_IF_ERROR(checkRange("vocab_size", m.vocab_size(), 1, kMaxVocab));
    SLUICE_RETURN_IF_ERROR(checkRange("hidden_size", m.hidden_size(), 1, kMaxCount));
    SLUICE_RETURN_IF_ERROR(checkRange("num_layers", m.num_layers(), 0, kMaxCount));
    SLUICE_RETURN_IF_ERROR(checkRange("num_experts", m.num_experts(), 0, kMaxCount));
    SLUICE_RETURN_IF_ERROR(checkRange("top_k", m.top_k(), 0, m.num_experts()));
    if (m.bos_token_id() < -1 || m.bos_token_id() >= int64_t(m.vocab_size()))
      return dataCorrupt("bos_token_id is " + std::to_string(m.bos_token_id()) + ", outside [-1, " +
                         number(m.vocab_size() - 1) + "]");
    for (int32_t id : m.eos_token_ids())
      if (id < 0 || id >= int64_t(m.vocab_size()))
        return dataCorrupt("eos_token_ids has " + std::to_string(id) + ", outside [0, " +
                           number(m.vocab_size() - 1) + "]");
    return Status::ok();
  }

  Status checkLimits() const {
    const proto::Limits &l = plan.limits();
    SLUICE_RETURN_IF_ERROR(
        checkRange("max_batch_tokens", l.max_batch_tokens(), 1, kMaxBatchTokens));
    SLUICE_RETURN_IF_ERROR(checkRange("max_seqs", l.max_seqs(), 1,
                                      std::min<uint64_t>(kMaxSeqs, l.max_batch_tokens())));
    SLUICE_RETURN_IF_ERROR(checkRange("max_seq_len", l.max_seq_len(), 1, kMaxSeqLen));
    SLUICE_RETURN_IF_ERROR(
        checkRange("max_logit_rows", l.max_logit_rows(), 1, l.max_batch_tokens()));
    SLUICE_RETURN_IF_ERROR(checkRange("page_size", l.page_size(), 1, kMaxPageSize));
    // Fewer pages than the longest sequence has would make max_seq_len a lie.
    return checkRange("num_pages", l.num_pages(), pagesPerSequence(l), kMaxCount);
  }

  Status checkParallelism() const {
    const auto ranks = static_cast<uint32_t>(plan.ranks_size());
    if (!plan.has_parallelism())
      return ranks == 1 ? Status::ok()
                        : dataCorrupt("is missing in a plan of " + number(ranks) + " ranks");
    const proto::Parallelism &p = plan.parallelism();
    SLUICE_RETURN_IF_ERROR(checkRange("tp", p.tp(), 1, ranks));
    SLUICE_RETURN_IF_ERROR(checkRange("ep", p.ep(), 1, ranks));
    if (p.tp() * p.ep() != ranks)
      return dataCorrupt("tp " + number(p.tp()) + " times ep " + number(p.ep()) + " is not the " +
                         number(ranks) + " ranks of the plan");
    auto dividesInto = [](const char *name, uint32_t value, const char *whole, uint32_t of) {
      return value >= 1 && of % value == 0
                 ? Status::ok()
                 : dataCorrupt(std::string(name) + " " + number(value) + " does not divide the " +
                               number(of) + " " + whole);
    };
    SLUICE_RETURN_IF_ERROR(dividesInto("dp", p.dp(), "ranks of the plan", ranks));
    return dividesInto("attention_tp", p.attention_tp(), "ranks of a data parallel group",
                       ranks / p.dp());
  }

  /// A step runs the bucket of the same index on every rank.
  Status checkSameBuckets(const proto::RankProgram &rank) const {
    const proto::RankProgram &first = plan.ranks(0);
    bool same = rank.buckets_size() == first.buckets_size();
    for (int i = 0; same && i < rank.buckets_size(); ++i)
      same = rank.buckets(i).tokens() == first.buckets(i).tokens();
    return same ? Status::ok() : dataCorrupt("its buckets are not those of rank 0");
  }

  Status checkKernels() {
    if (plan.kernels_size() > kMaxKernels)
      return outside("the number of kernels", static_cast<uint64_t>(plan.kernels_size()), 0,
                     kMaxKernels);
    for (int i = 0; i < plan.kernels_size(); ++i) {
      const proto::Kernel &kernel = plan.kernels(i);
      std::string context = "kernel " + std::to_string(i) + " " + quoteName(kernel.name());
      auto params = kernelParams(kernel);
      if (!params.isOk())
        return asCorrupt(params.status()).withContext(context);
      if (Status status = checkVocabulary(*params); !status.isOk())
        return status.withContext(context);
      kernels.push_back(std::move(*params));
    }
    return Status::ok();
  }

  /// Token ids index the embedding table, and what is sampled must be a token id again.
  Status checkVocabulary(const abi::FamilyParams &params) const {
    int64_t vocab = plan.model().vocab_size();
    if (const auto *p = std::get_if<abi::EmbeddingParams>(&params); p && p->vocab < vocab)
      return dataCorrupt("its table has " + std::to_string(p->vocab) +
                         " rows, fewer than the vocabulary of " + std::to_string(vocab));
    if (const auto *p = std::get_if<abi::SampleParams>(&params); p && p->vocab != vocab)
      return dataCorrupt("it samples from " + std::to_string(p->vocab) +
                         " tokens, but the vocabulary has " + std::to_string(vocab));
    return Status::ok();
  }

  const proto::Plan &plan;
  std::span<const WeightsFacts> weights;
  std::vector<abi::FamilyParams> kernels;
};

} // namespace

Result<std::vector<abi::FamilyParams>> validatePlan(const proto::Plan &plan,
                                                    std::span<const WeightsFacts> weights) {
  auto kernels = PlanChecker(plan, weights).check();
  if (!kernels.isOk())
    return kernels.status().withContext(kPlanFile);
  return kernels;
}

} // namespace sluice
