//===- ProgramValidator.cpp - The commands of one bucket --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Kernels index with two kinds of data. What the host program writes into IO buffers is bounded by
// the engine. What a router writes is good only for the kernel that reads all of one router's
// results, over as many tokens as the router saw: rows beyond its live count hold what some earlier
// step left there. Each router's results are therefore followed with their header and the command
// that wrote them until something else writes over them.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/ProgramValidator.h"

#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/PlanValidator.h"
#include "runtime/artifact/StepAbi.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace sluice::validation {
namespace {

constexpr int kMaxCommands = 1 << 20;
/// Routing results that a program may keep at once; more than any schedule needs, and a bound on
/// the work a hostile plan can cause.
constexpr size_t kMaxIndexRanges = 256;

/// The arguments that kernels use as indices, and so must come from the host program. With data
/// parallel groups they describe the rank's own group.
constexpr const char *kHostArgs[] = {abi::kIoTokenIds,  abi::kIoPositions, abi::kIoTokenSeq,
                                     abi::kIoSeqStarts, abi::kIoKvLengths, abi::kIoPageTable,
                                     abi::kIoLogitRows};
/// The results of a router that later kernels use as indices.
constexpr const char *kRouterIndexArgs[] = {"ids", "offsets", "order", "inverse"};
/// The IO buffers that programs may write.
constexpr const char *kOutputBuffers[] = {abi::kIoLogits, abi::kIoSampledIds, abi::kIoExpertCounts};

template <size_t N> bool contains(const char *const (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

/// What a range of routing results is indexed by: the experts of a router, or the slots of a group.
struct RoutingShape {
  int64_t experts = 0, topK = 0;
  bool operator==(const RoutingShape &) const = default;
};

/// The experts and top-k of a kernel that reads routing results; nothing for every other family.
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

class ProgramChecker {
public:
  ProgramChecker(const proto::Plan &plan, const std::vector<abi::FamilyParams> &kernels,
                 const RankLayout &layout, uint32_t rank, const proto::Bucket &bucket)
      : plan(plan), kernels(kernels), layout(layout), rank(rank), bucket(bucket),
        dims(bucketDims(plan.limits(), bucket.tokens())) {}

  Status check() {
    if (bucket.commands_size() > kMaxCommands)
      return outside("its number of commands", static_cast<uint64_t>(bucket.commands_size()), 0,
                     kMaxCommands);
    for (int i = 0; i < bucket.commands_size(); ++i) {
      const proto::Command &command = bucket.commands(i);
      std::string context = "command " + std::to_string(i);
      if (!command.has_launch() && !command.has_collective())
        return dataCorrupt(context + " is of a kind this runtime does not know");
      const bool isLaunch = command.has_launch();
      Status status =
          isLaunch ? checkLaunch(command.launch(), i) : checkCollective(command.collective());
      if (!status.isOk())
        return status.withContext(
            context + " (" +
            quoteName(isLaunch ? command.launch().label() : command.collective().label()) + ")");
    }
    if (!wroteLogits || !wroteSampledIds)
      return dataCorrupt(std::string("no command writes the buffer \"") +
                         (wroteLogits ? abi::kIoSampledIds : abi::kIoLogits) + "\" of the results");
    return Status::ok();
  }

private:
  /// A range that holds one of the results of a router, and where it came from.
  struct IndexRange {
    Range range;
    std::string_view role;
    RoutingShape shape;
    Range header;     ///< counts the rows that are valid
    int producer = 0; ///< index of the command
  };

  Status checkLaunch(const proto::Launch &launch, int index) {
    if (launch.kernel() >= kernels.size())
      return dataCorrupt("kernel index " + number(launch.kernel()) + " exceeds the plan's " +
                         number(kernels.size()) + " kernels");
    if (launch.stream() >= kMaxStreams)
      return outside("stream", launch.stream(), 0, kMaxStreams - 1);
    const abi::FamilyParams &params = kernels[launch.kernel()];
    const std::vector<abi::ArgSpec> &specs = abi::familyArgs(params);
    std::vector<uint64_t> &needed = argBytes[launch.kernel()];
    neededBytes = &needed;
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
    producer.reset();
    for (size_t i = 0; i < specs.size(); ++i) {
      Status status = checkArg(launch.args(static_cast<int>(i)), params, specs[i], needed[i], i);
      if (!status.isOk())
        return status.withContext("argument " + number(i) + " \"" + specs[i].name + "\" of " +
                                  abi::familyName(params));
    }
    SLUICE_RETURN_IF_ERROR(checkAliases(params, specs));
    recordWrites(params, specs, index);
    return Status::ok();
  }

  Status checkArg(const proto::BufferRef &ref, const abi::FamilyParams &params,
                  const abi::ArgSpec &spec, uint64_t needed, size_t index) {
    if (ref.slab() == 0) {
      if (needed != 0)
        return dataCorrupt("is absent, but the kernel needs " + number(needed) + " bytes");
      if (ref.offset() != 0 || ref.bytes() != 0)
        return dataCorrupt("is absent, but has an offset or a size");
      return Status::ok();
    }
    if (needed == 0)
      return dataCorrupt("is present, but the kernel's parameters say that it must be absent");
    Range &range = ranges[index];
    SLUICE_ASSIGN_OR_RETURN(range, resolve(ref));
    if (range.bytes < needed)
      return dataCorrupt("has " + number(range.bytes) + " bytes, but the kernel needs " +
                         number(needed));
    if (spec.access != abi::ArgAccess::kRead)
      return checkWritable(range);
    if (range.slab == layout.weights)
      return checkInsideOneWeight(range);
    const std::string_view name = spec.name;
    if (name == abi::kIoHeader)
      return isIoBuffer(range, name) || isIoBuffer(range, abi::kIoGlobalHeader) ? Status::ok()
                                                                                : notFromHost(name);
    if (name == abi::kIoSampling)
      return isIoBuffer(range, name) ? Status::ok() : notFromHost(name);
    if (contains(kHostArgs, name)) {
      if (!isIoBuffer(range, name))
        return notFromHost(name);
      if (!isIoBuffer(ranges[0], abi::kIoHeader))
        return dataCorrupt("describes the rank's own group, but argument 0 \"header\" counts the "
                           "tokens of all groups");
      return Status::ok();
    }
    if (contains(kRouterIndexArgs, name))
      return checkRouted(range, name, *routingShape(params));
    return Status::ok();
  }

  /// The range of a reference to a slab, inside it and aligned.
  Result<Range> resolve(const proto::BufferRef &ref) const {
    if (ref.slab() == 0 || ref.slab() > layout.slabs.size())
      return dataCorrupt("slab " + number(ref.slab()) + " exceeds the rank's " +
                         number(layout.slabs.size()) + " slabs");
    const Range range{static_cast<int>(ref.slab()) - 1, ref.offset(), ref.bytes()};
    const bool inArena = range.slab == layout.arena;
    uint64_t limit = inArena ? bucket.arena_bytes() : layout.slabs[size_t(range.slab)]->bytes();
    if (!fits(ref.offset(), ref.bytes(), limit))
      return dataCorrupt("bytes at offset " + number(ref.offset()) + ", size " +
                         number(ref.bytes()) + ", exceed the " + number(limit) + " bytes of the " +
                         (inArena ? "bucket's arena" : slabName(slabKind(range.slab))) +
                         (inArena ? "" : " slab"));
    // Counters of one layer are E words inside a table of all layers, whatever E is.
    uint64_t alignment =
        layout.within(range, abi::kIoExpertCounts) ? sizeof(uint32_t) : kArgAlignment;
    if (ref.offset() % alignment != 0)
      return dataCorrupt("offset " + number(ref.offset()) + " is not a multiple of " +
                         number(alignment));
    return range;
  }

  /// Whether `range` is the beginning of that IO buffer.
  bool isIoBuffer(const Range &range, std::string_view name) const {
    auto found = layout.ioBuffers.find(name);
    return found != layout.ioBuffers.end() && range.slab == found->second.slab &&
           range.offset == found->second.offset && range.bytes <= found->second.bytes;
  }

  static Status notFromHost(std::string_view name) {
    return dataCorrupt("must be the IO buffer \"" + std::string(name) +
                       "\", which the host program fills");
  }

  Status checkWritable(const Range &range) const {
    if (range.slab == layout.weights)
      return dataCorrupt("is written, but lies in the weights slab, which is read only");
    if (range.slab != layout.io)
      return Status::ok();
    for (const char *name : kOutputBuffers)
      if (layout.within(range, name))
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

  /// Kernels index rows with these, so they must be a router's result that nothing has written over
  /// since, made for the same tokens, and all of one router.
  Status checkRouted(const Range &range, std::string_view role, RoutingShape shape) {
    for (const IndexRange &known : routed) {
      if (known.range.slab != range.slab || known.range.offset != range.offset ||
          range.bytes > known.range.bytes || known.role != role || known.shape != shape)
        continue;
      if (known.header.offset != ranges[0].offset)
        return dataCorrupt("was made for other tokens than argument 0 \"header\" counts");
      if (producer && *producer != known.producer)
        return dataCorrupt("is of command " + std::to_string(known.producer) +
                           ", but an argument before it is of command " +
                           std::to_string(*producer));
      producer = known.producer;
      return Status::ok();
    }
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

  void recordWrites(const abi::FamilyParams &params, const std::vector<abi::ArgSpec> &specs,
                    int index) {
    for (size_t i = 0; i < specs.size(); ++i)
      if (specs[i].access != abi::ArgAccess::kRead)
        recordWrite(ranges[i]);
    // Whoever writes results under these names is a router of a kind; its offsets say how many
    // experts or slots it distinguishes.
    auto offsets = std::find_if(specs.begin(), specs.end(), [](const abi::ArgSpec &spec) {
      return spec.access == abi::ArgAccess::kWrite && std::string_view(spec.name) == "offsets";
    });
    if (offsets == specs.end())
      return;
    const auto at = static_cast<size_t>(offsets - specs.begin());
    const uint64_t bins = (*neededBytes)[at] / sizeof(int32_t) - 1;
    const RoutingShape own = *routingShape(params), made{static_cast<int64_t>(bins), own.topK};
    for (size_t i = 0; i < specs.size(); ++i)
      if (specs[i].access == abi::ArgAccess::kWrite && contains(kRouterIndexArgs, specs[i].name))
        routed.push_back({ranges[i], specs[i].name, made, ranges[0], index});
    if (routed.size() > kMaxIndexRanges)
      routed.erase(routed.begin(), routed.end() - static_cast<ptrdiff_t>(kMaxIndexRanges));
  }

  void recordWrite(const Range &range) {
    std::erase_if(routed, [&](const IndexRange &known) { return known.range.overlaps(range); });
    wroteLogits |= layout.within(range, abi::kIoLogits);
    wroteSampledIds |= layout.within(range, abi::kIoSampledIds);
  }

  //===----------------------------------------------------------------------===//
  // Collectives
  //===----------------------------------------------------------------------===//

  Status checkCollective(const proto::Collective &exchange) {
    if (exchange.kind() < proto::Collective::ALL_REDUCE ||
        exchange.kind() > proto::Collective::BROADCAST)
      return dataCorrupt("is a collective of a kind this runtime does not know");
    if (exchange.stream() >= kMaxStreams)
      return outside("stream", exchange.stream(), 0, kMaxStreams - 1);
    if (exchange.element() != "f32")
      return unsupported("element is " + quoteName(exchange.element()) +
                         "; this runtime exchanges \"f32\"");
    SLUICE_RETURN_IF_ERROR(checkMembers(exchange));
    auto source = resolve(exchange.source());
    if (!source.isOk())
      return source.status().withContext("source");
    auto result = resolve(exchange.result());
    if (!result.isOk())
      return result.status().withContext("result");
    if (Status status = checkWritable(*result); !status.isOk())
      return status.withContext("result");
    if (source->slab == layout.weights)
      if (Status status = checkInsideOneWeight(*source); !status.isOk())
        return status.withContext("source");
    SLUICE_RETURN_IF_ERROR(exchange.counts().slab() != 0 ? checkCountedSizes(exchange)
                                                         : checkEqualSizes(exchange));
    const bool inPlace = exchange.kind() == proto::Collective::ALL_REDUCE ||
                         exchange.kind() == proto::Collective::BROADCAST;
    if (source->overlaps(*result) && !(inPlace && *source == *result))
      return dataCorrupt(inPlace ? "source and result overlap, but are not the same bytes"
                                 : "source and result overlap");
    recordWrite(*result);
    return Status::ok();
  }

  Status checkMembers(const proto::Collective &exchange) const {
    const auto numRanks = static_cast<uint32_t>(plan.ranks_size());
    std::vector<bool> seen(numRanks);
    for (uint32_t member : exchange.ranks()) {
      if (member >= numRanks)
        return outside("a member of ranks", member, 0, numRanks - 1);
      if (seen[member])
        return dataCorrupt("rank " + number(member) + " is twice in ranks");
      seen[member] = true;
    }
    if (!seen[rank])
      return dataCorrupt("ranks does not have this rank");
    if (exchange.kind() != proto::Collective::BROADCAST && exchange.root() != 0)
      return dataCorrupt("root is " + number(exchange.root()) + ", but only a broadcast has one");
    if (exchange.kind() == proto::Collective::BROADCAST &&
        (exchange.root() >= numRanks || !seen[exchange.root()]))
      return dataCorrupt("root " + number(exchange.root()) + " is not in ranks");
    return Status::ok();
  }

  /// Participants bring as many rows as the host program says: at worst one of them has all.
  Status checkCountedSizes(const proto::Collective &exchange) const {
    if (exchange.kind() != proto::Collective::ALL_GATHER &&
        exchange.kind() != proto::Collective::REDUCE_SCATTER)
      return dataCorrupt("has counts, but only an all-gather and a reduce-scatter may");
    auto counts = resolve(exchange.counts());
    if (!counts.isOk())
      return counts.status().withContext("counts");
    auto isWhole = [&](const char *name) {
      auto found = layout.ioBuffers.find(std::string_view(name));
      return found != layout.ioBuffers.end() && *counts == found->second;
    };
    const bool ofTokens = isWhole(abi::kIoGroupTokens);
    if (!ofTokens && !isWhole(abi::kIoGroupLogitRows))
      return dataCorrupt("counts must be the IO buffer \"group_tokens\" or \"group_logit_rows\"");
    const uint32_t groups = dpGroups(plan),
                   ranksPerGroup = static_cast<uint32_t>(plan.ranks_size()) / groups;
    bool inOrder = static_cast<uint32_t>(exchange.ranks_size()) == groups;
    for (uint32_t group = 0; inOrder && group < groups; ++group)
      inOrder = exchange.ranks(static_cast<int>(group)) / ranksPerGroup == group;
    if (!inOrder)
      return dataCorrupt("has counts of " + number(groups) +
                         " groups, but ranks is not one rank of each group in order");
    SLUICE_RETURN_IF_ERROR(checkRange("row_elements", exchange.row_elements(), 1, kMaxRowElements));
    // Below 2^20 rows of 2^30 floats.
    const auto rows = static_cast<uint64_t>(ofTokens ? dims.tokens : dims.logitRows);
    const uint64_t needed = rows * exchange.row_elements() * sizeof(float);
    for (const auto &[name, bytes] : {std::pair("source", exchange.source().bytes()),
                                      std::pair("result", exchange.result().bytes())})
      if (bytes < needed)
        return dataCorrupt(std::string(name) + " has " + number(bytes) + " bytes, but " +
                           number(rows) + " rows of " + number(exchange.row_elements()) +
                           " elements need " + number(needed));
    return Status::ok();
  }

  Status checkEqualSizes(const proto::Collective &exchange) const {
    if (exchange.counts().offset() != 0 || exchange.counts().bytes() != 0)
      return dataCorrupt("counts is absent, but has an offset or a size");
    if (exchange.row_elements() != 0)
      return dataCorrupt("row_elements is " + number(exchange.row_elements()) +
                         ", but there are no counts");
    const uint64_t source = exchange.source().bytes(), result = exchange.result().bytes(),
                   members = static_cast<uint64_t>(exchange.ranks_size());
    // Slabs are below 2^50 bytes and members below 2^12.
    const bool gathers = exchange.kind() == proto::Collective::ALL_GATHER,
               scatters = exchange.kind() == proto::Collective::REDUCE_SCATTER,
               swaps = exchange.kind() == proto::Collective::ALL_TO_ALL;
    const uint64_t expected = gathers ? source * members : scatters ? source / members : source;
    const uint64_t unit = sizeof(float) * (scatters || swaps ? members : 1);
    if (source == 0 || source % unit != 0)
      return dataCorrupt("source has " + number(source) + " bytes, not a positive multiple of " +
                         number(unit));
    if (result != expected)
      return dataCorrupt("result has " + number(result) + " bytes, but a source of " +
                         number(source) + " bytes on " + number(members) + " ranks gives " +
                         number(expected));
    return Status::ok();
  }

  int slabKind(int slab) const { return layout.slabs[static_cast<size_t>(slab)]->kind(); }

  const proto::Plan &plan;
  const std::vector<abi::FamilyParams> &kernels;
  const RankLayout &layout;
  const uint32_t rank;
  const proto::Bucket &bucket;
  const abi::StepDims dims;
  std::unordered_map<uint32_t, std::vector<uint64_t>> argBytes; ///< by kernel, of those met so far
  // Of the current launch:
  const std::vector<uint64_t> *neededBytes = nullptr; ///< of its arguments
  std::vector<Range> ranges;                          ///< its arguments'
  std::optional<int> producer; ///< the command whose routing results it reads
  std::vector<IndexRange> routed;
  bool wroteLogits = false, wroteSampledIds = false;
};

} // namespace

Status validateProgram(const proto::Plan &plan, const std::vector<abi::FamilyParams> &kernels,
                       const RankLayout &layout, uint32_t rank, const proto::Bucket &bucket) {
  return ProgramChecker(plan, kernels, layout, rank, bucket).check();
}

} // namespace sluice::validation
