//===- PlanValidator.cpp - Is a decoded plan safe to run? -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One class per scope, from the whole plan inwards: PlanChecker (limits, kernels, ranks),
// RankChecker (slabs, weights, IO, buckets), ProgramChecker (the launches of one bucket in order).
// The first problem ends the check. All arithmetic on sizes from the file is on uint64 with the
// bound tested before the sum.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/PlanValidator.h"

#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/StepAbi.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace sluice {
namespace {

constexpr uint64_t kMaxBatchTokens = uint64_t(1) << 20;
constexpr uint64_t kMaxSeqs = uint64_t(1) << 16;
constexpr uint64_t kMaxVocab = uint64_t(1) << 26;
constexpr uint64_t kMaxSeqLen = uint64_t(1) << 30;
constexpr uint64_t kMaxPageSize = uint64_t(1) << 16;
constexpr uint64_t kMaxCount = INT32_MAX; ///< of anything the engine counts in an int
constexpr uint64_t kMaxSlabBytes = uint64_t(1) << 50;
constexpr uint64_t kMaxSlabAlignment = uint64_t(2) << 20;
constexpr int kMaxRanks = 4096, kMaxKernels = 1 << 16, kMaxBuckets = 1024;
constexpr int kMaxCommands = 1 << 20;
constexpr uint32_t kMaxStreams = 64;
/// Routing results that a program may keep at once; more than any schedule needs, and a bound on
/// the work a hostile plan can cause.
constexpr size_t kMaxIndexRanges = 192;

std::string number(uint64_t value) { return std::to_string(value); }

Status outside(const std::string &what, uint64_t value, uint64_t low, uint64_t high) {
  return dataCorrupt(what + " is " + number(value) + ", outside [" + number(low) + ", " +
                     number(high) + "]");
}

Status checkRange(const std::string &what, uint64_t value, uint64_t low, uint64_t high) {
  return value < low || value > high ? outside(what, value, low, high) : Status::ok();
}

/// Whether [offset, offset + bytes) lies in [0, limit).
bool fits(uint64_t offset, uint64_t bytes, uint64_t limit) {
  return offset <= limit && bytes <= limit - offset;
}

/// A problem of the file is "corrupt data" whatever the helper that found it calls it, except what
/// is merely not known to this build.
Status asCorrupt(const Status &status) {
  if (status.isOk() || status.code() == StatusCode::kUnsupported)
    return status;
  return dataCorrupt(std::string(status.message()));
}

const char *slabName(int kind) {
  constexpr const char *names[] = {"weights", "kv", "arena", "io"};
  return names[kind];
}

struct Range {
  int slab = -1; ///< index into the rank's slabs; -1 = none
  uint64_t offset = 0, bytes = 0;

  bool overlaps(const Range &other) const {
    return slab >= 0 && slab == other.slab && offset < other.offset + other.bytes &&
           other.offset < offset + bytes;
  }
  bool operator==(const Range &) const = default;
};

/// The arguments that kernels use as indices, and so must come from the host program.
constexpr const char *kHostArgs[] = {abi::kIoHeader,    abi::kIoTokenIds,  abi::kIoPositions,
                                     abi::kIoTokenSeq,  abi::kIoSeqStarts, abi::kIoKvLengths,
                                     abi::kIoPageTable, abi::kIoLogitRows, abi::kIoSampling};
/// The results of a router that expert kernels use as indices.
constexpr const char *kRouterIndexArgs[] = {"offsets", "order", "inverse"};
/// The IO buffers that kernels may write.
constexpr const char *kOutputBuffers[] = {abi::kIoLogits, abi::kIoSampledIds, abi::kIoExpertCounts};

template <size_t N> bool contains(const char *const (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

struct RoutingShape {
  int64_t experts = 0, topK = 0;
  bool operator==(const RoutingShape &) const = default;
};

/// The experts and top-k of a routing kernel; nothing for every other family.
std::optional<RoutingShape> routingShape(const abi::FamilyParams &params) {
  return std::visit(
      [](const auto &p) -> std::optional<RoutingShape> {
        if constexpr (requires { p.experts, p.topK; })
          return RoutingShape{p.experts, p.topK};
        else
          return std::nullopt;
      },
      params);
}

/// What RankChecker found out and the programs refer to.
struct RankLayout {
  std::vector<const proto::Slab *> slabs;
  int arena = -1, io = -1, kv = -1, weights = -1; ///< indices into slabs
  std::map<std::string, Range, std::less<>> ioBuffers;
  std::vector<Range> weightRanges; ///< by ascending offset
};

//===------------------------------------------------------------------------===//
// One bucket
//===------------------------------------------------------------------------===//

class ProgramChecker {
public:
  ProgramChecker(const proto::Plan &plan, const std::vector<abi::FamilyParams> &kernels,
                 const RankLayout &layout, const proto::Bucket &bucket)
      : kernels(kernels), layout(layout), bucket(bucket),
        dims(bucketDims(plan.limits(), bucket.tokens())),
        argBytes(static_cast<size_t>(plan.kernels_size())) {}

  Status check() {
    if (bucket.commands_size() > kMaxCommands)
      return outside("its number of commands", static_cast<uint64_t>(bucket.commands_size()), 0,
                     kMaxCommands);
    for (int i = 0; i < bucket.commands_size(); ++i) {
      const proto::Command &command = bucket.commands(i);
      std::string context = "command " + std::to_string(i);
      if (!command.has_launch())
        return dataCorrupt(context + " is of a kind this runtime does not know");
      const proto::Launch &launch = command.launch();
      if (Status status = checkLaunch(launch); !status.isOk())
        return status.withContext(context + " (" + quoteName(launch.label()) + ")");
    }
    if (!wroteLogits || !wroteSampledIds)
      return dataCorrupt(std::string("no command writes the buffer \"") +
                         (wroteLogits ? abi::kIoSampledIds : abi::kIoLogits) + "\" of the results");
    return Status::ok();
  }

private:
  /// A range of the arena that holds the routing results of one router, and which of them.
  struct IndexRange {
    Range range;
    std::string_view role;
    RoutingShape shape;
  };

  Status checkLaunch(const proto::Launch &launch) {
    if (launch.kernel() >= kernels.size())
      return dataCorrupt("kernel index " + number(launch.kernel()) + " exceeds the plan's " +
                         number(kernels.size()) + " kernels");
    if (launch.stream() >= kMaxStreams)
      return outside("stream", launch.stream(), 0, kMaxStreams - 1);
    const abi::FamilyParams &params = kernels[launch.kernel()];
    const std::vector<abi::ArgSpec> &specs = abi::familyArgs(params);
    std::vector<uint64_t> &needed = argBytes[launch.kernel()];
    if (needed.empty()) {
      auto bytes = abi::familyArgBytes(params, dims);
      if (!bytes.isOk())
        return asCorrupt(bytes.status());
      needed = std::move(*bytes);
    }
    if (static_cast<size_t>(launch.args_size()) != specs.size())
      return dataCorrupt("has " + std::to_string(launch.args_size()) + " arguments, but " +
                         abi::familyName(params) + " takes " + number(specs.size()));

    ranges.assign(specs.size(), Range{});
    for (size_t i = 0; i < specs.size(); ++i) {
      Status status =
          checkArg(launch.args(static_cast<int>(i)), params, specs[i], needed[i], ranges[i]);
      if (!status.isOk())
        return status.withContext("argument " + number(i) + " \"" + specs[i].name + "\" of " +
                                  abi::familyName(params));
    }
    SLUICE_RETURN_IF_ERROR(checkAliases(params, specs));
    recordWrites(params, specs);
    return Status::ok();
  }

  Status checkArg(const proto::BufferRef &ref, const abi::FamilyParams &params,
                  const abi::ArgSpec &spec, uint64_t needed, Range &range) const {
    if (ref.slab() == 0) {
      if (needed != 0)
        return dataCorrupt("is absent, but the kernel needs " + number(needed) + " bytes");
      if (ref.offset() != 0 || ref.bytes() != 0)
        return dataCorrupt("is absent, but has an offset or a size");
      return Status::ok();
    }
    if (needed == 0)
      return dataCorrupt("is present, but the kernel's parameters say that it must be absent");
    if (ref.slab() > layout.slabs.size())
      return dataCorrupt("slab " + number(ref.slab()) + " exceeds the rank's " +
                         number(layout.slabs.size()) + " slabs");
    range = {static_cast<int>(ref.slab()) - 1, ref.offset(), ref.bytes()};
    if (ref.bytes() < needed)
      return dataCorrupt("has " + number(ref.bytes()) + " bytes, but the kernel needs " +
                         number(needed));
    const bool inArena = range.slab == layout.arena;
    uint64_t limit = inArena ? bucket.arena_bytes() : layout.slabs[size_t(range.slab)]->bytes();
    if (!fits(ref.offset(), ref.bytes(), limit))
      return dataCorrupt("bytes at offset " + number(ref.offset()) + ", size " +
                         number(ref.bytes()) + ", exceed the " + number(limit) + " bytes of the " +
                         (inArena ? "bucket's arena" : slabName(slabKind(range.slab))) +
                         (inArena ? "" : " slab"));

    // Counters of one layer are E words inside a table of all layers, whatever E is.
    uint64_t alignment = within(range, abi::kIoExpertCounts) ? sizeof(uint32_t) : kArgAlignment;
    if (ref.offset() % alignment != 0)
      return dataCorrupt("offset " + number(ref.offset()) + " is not a multiple of " +
                         number(alignment));

    if (spec.access != abi::ArgAccess::kRead)
      return checkWritable(range);
    if (range.slab == layout.weights)
      return checkInsideOneWeight(range);
    if (contains(kHostArgs, spec.name)) {
      const Range &buffer = layout.ioBuffers.find(spec.name)->second;
      if (range.slab != buffer.slab || range.offset != buffer.offset || range.bytes > buffer.bytes)
        return dataCorrupt("must be the IO buffer \"" + std::string(spec.name) +
                           "\", which the host program fills");
    } else if (contains(kRouterIndexArgs, spec.name)) {
      return checkRouted(range, spec.name, *routingShape(params));
    }
    return Status::ok();
  }

  Status checkWritable(const Range &range) const {
    if (range.slab == layout.weights)
      return dataCorrupt("is written, but lies in the weights slab, which is read only");
    if (range.slab != layout.io)
      return Status::ok();
    for (const char *name : kOutputBuffers)
      if (within(range, name))
        return Status::ok();
    return dataCorrupt("is written, but lies in a part of the io slab that kernels only read");
  }

  Status checkInsideOneWeight(const Range &range) const {
    auto after = std::upper_bound(
        layout.weightRanges.begin(), layout.weightRanges.end(), range.offset,
        [](uint64_t offset, const Range &weight) { return offset < weight.offset; });
    if (after == layout.weightRanges.begin() ||
        !fits(range.offset - std::prev(after)->offset, range.bytes, std::prev(after)->bytes))
      return dataCorrupt("bytes at offset " + number(range.offset) + ", size " +
                         number(range.bytes) + ", of the weights slab are not part of one weight");
    return Status::ok();
  }

  /// Expert kernels index rows with these, so they must be a router's result that nothing has
  /// written over since.
  Status checkRouted(const Range &range, std::string_view role, RoutingShape shape) const {
    for (const IndexRange &known : routed)
      if (known.range.slab == range.slab && known.range.offset == range.offset &&
          range.bytes <= known.range.bytes && known.role == role && known.shape == shape)
        return Status::ok();
    return dataCorrupt("is not the result \"" + std::string(role) +
                       "\" of an earlier router with " + std::to_string(shape.experts) +
                       " experts and top_k " + std::to_string(shape.topK) +
                       " that is still intact");
  }

  /// A written argument may share bytes with another one only where the family allows to work in
  /// place; kernels run in parallel over rows and would race otherwise.
  Status checkAliases(const abi::FamilyParams &params,
                      const std::vector<abi::ArgSpec> &specs) const {
    auto inPlace = [&](size_t written, size_t other) {
      std::string_view out = specs[written].name, in = specs[other].name;
      bool allowed =
          (std::holds_alternative<abi::ResidualNormParams>(params) && out == "residual_out" &&
           in == "residual") ||
          (std::holds_alternative<abi::ResidualParams>(params) && out == "out" && in == "a");
      return allowed && ranges[written].offset == ranges[other].offset;
    };
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].access == abi::ArgAccess::kRead)
        continue;
      for (size_t j = 0; j < specs.size(); ++j)
        if (i != j && ranges[i].overlaps(ranges[j]) && !inPlace(i, j))
          return dataCorrupt("argument " + number(i) + " \"" + specs[i].name +
                             "\" is written and overlaps argument " + number(j) + " \"" +
                             specs[j].name + "\"");
    }
    return Status::ok();
  }

  void recordWrites(const abi::FamilyParams &params, const std::vector<abi::ArgSpec> &specs) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].access == abi::ArgAccess::kRead)
        continue;
      std::erase_if(routed,
                    [&](const IndexRange &known) { return known.range.overlaps(ranges[i]); });
      wroteLogits |= within(ranges[i], abi::kIoLogits);
      wroteSampledIds |= within(ranges[i], abi::kIoSampledIds);
    }
    if (!std::holds_alternative<abi::RouterParams>(params))
      return;
    for (size_t i = 0; i < specs.size(); ++i)
      if (contains(kRouterIndexArgs, specs[i].name))
        routed.push_back({ranges[i], specs[i].name, *routingShape(params)});
    if (routed.size() > kMaxIndexRanges)
      routed.erase(routed.begin(), routed.end() - static_cast<ptrdiff_t>(kMaxIndexRanges));
  }

  bool within(const Range &range, std::string_view ioBuffer) const {
    auto found = layout.ioBuffers.find(ioBuffer);
    if (found == layout.ioBuffers.end() || range.slab != found->second.slab)
      return false;
    return range.offset >= found->second.offset &&
           fits(range.offset - found->second.offset, range.bytes, found->second.bytes);
  }

  int slabKind(int slab) const { return layout.slabs[static_cast<size_t>(slab)]->kind(); }

  const std::vector<abi::FamilyParams> &kernels;
  const RankLayout &layout;
  const proto::Bucket &bucket;
  const abi::StepDims dims;
  std::vector<std::vector<uint64_t>> argBytes; ///< per kernel, filled when first used
  std::vector<Range> ranges;                   ///< of the current launch's arguments
  std::vector<IndexRange> routed;
  bool wroteLogits = false, wroteSampledIds = false;
};

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
    if (file.bytes() != facts.fileBytes)
      return dataCorrupt(name + " has " + number(facts.fileBytes) + " bytes, but the plan says " +
                         number(file.bytes()));
    if (file.data_start() != facts.header->dataStart())
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
      const SafetensorsTensor *tensor = facts.header->find(weight.name());
      if (!tensor)
        return dataCorrupt(what + " is not in " + quoteName(file.file()));
      if (weight.offset() != tensor->offset - file.data_start() || weight.bytes() != tensor->bytes)
        return dataCorrupt(what + ": offset " + number(weight.offset()) + ", size " +
                           number(weight.bytes()) + " differ from offset " +
                           number(tensor->offset - file.data_start()) + ", size " +
                           number(tensor->bytes) + " in " + quoteName(file.file()));
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
          ProgramChecker(plan, kernels, layout, bucket).check().withContext(context));
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
    if (plan.weights_files_size() != plan.ranks_size() ||
        weights.size() != static_cast<size_t>(plan.ranks_size()))
      return dataCorrupt("has " + std::to_string(plan.weights_files_size()) +
                         " weights files for " + std::to_string(plan.ranks_size()) + " ranks");
    for (int i = 0; i < plan.ranks_size(); ++i) {
      std::string context = "rank " + std::to_string(i);
      if (plan.ranks(i).rank() != static_cast<uint32_t>(i))
        return dataCorrupt(context + " is numbered " + number(plan.ranks(i).rank()) +
                           "; ranks must be in order");
      RankChecker checker(plan, kernels, plan.ranks(i), plan.weights_files(i),
                          weights[static_cast<size_t>(i)]);
      SLUICE_RETURN_IF_ERROR(checker.check().withContext(context).at({.rank = i}));
    }
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
