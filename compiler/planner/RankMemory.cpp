//===- RankMemory.cpp - Sharding rules as arithmetic ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/RankMemory.h"

#include "runtime/base/Format.h"
#include "runtime/quant/PackedLayout.h"

#include <algorithm>
#include <numeric>

namespace sluice::planner {
namespace {

/// Alignment of weights and caches in their slabs (plan::slabAlignment).
constexpr uint64_t kSlabAlignment = 4096;

uint64_t alignUp(uint64_t bytes) {
  return (bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment;
}
int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string text(int64_t value) { return std::to_string(value); }

/// Columns of a row that cannot be cut: those that share a scale. 1 when any can.
int64_t columnBlock(const TableWeight &weight) {
  Result<quant::WeightFormat> format = quant::WeightFormat::parse(weight.format);
  if (!format.isOk() || !format->isQuantized())
    return 1;
  switch (format->scope) {
  case quant::ScaleScope::kGroup:
  case quant::ScaleScope::kBlock:
    return std::min<int64_t>(format->blockCols, weight.k);
  default:
    return 1;
  }
}

/// The first weight that cutting its columns in `parts` would cut within a scale.
const TableWeight *cutsScales(const ModelTable &model, Sharding sharding, int64_t parts) {
  for (const TableWeight &weight : model.weights)
    if (weight.sharding == sharding && weight.k / parts % columnBlock(weight) != 0)
      return &weight;
  return nullptr;
}

/// Whether heads can be shared by `parts` ranks: query heads evenly, and key/value heads evenly or
/// each by equally many ranks.
bool splitsHeads(const ModelTable &model, int64_t parts) {
  for (const TableLayer &layer : model.layers) {
    if (layer.heads % parts != 0)
      return false;
    if (layer.latent == 0 && layer.kvHeads % parts != 0 && parts % layer.kvHeads != 0)
      return false;
  }
  return cutsScales(model, Sharding::kHeadColumns, parts) == nullptr;
}

bool splitsFfn(const ModelTable &model, int64_t parts) {
  for (const TableLayer &layer : model.layers)
    if (layer.ffnWidth % parts != 0)
      return false;
  return cutsScales(model, Sharding::kFfnColumns, parts) == nullptr;
}

template <typename Fits> int64_t largestDivisor(int64_t number, Fits fits) {
  for (int64_t parts = number; parts > 1; --parts)
    if (number % parts == 0 && fits(parts))
      return parts;
  return 1;
}

uint64_t storedBytes(const TableWeight &weight) {
  Result<quant::WeightFormat> format = quant::WeightFormat::parse(weight.format);
  if (weight.layout == "row_major") {
    int bits = format.isOk() ? quant::elementBits(format->element) : 32;
    return uint64_t(weight.elements()) * uint64_t(bits) / 8;
  }
  if (!format.isOk())
    return weight.bytes;
  Result<uint64_t> bytes =
      quant::packedBytes(weight.layout, *format, weight.n, weight.k, weight.blobs);
  return bytes.isOk() ? *bytes : weight.bytes;
}

int64_t slotsOf(const ParallelShape &shape, int64_t experts) {
  return std::max(shape.slots, experts);
}

} // namespace

std::string ParallelShape::name() const {
  std::string result = "tp " + text(tp) + " ep " + text(ep) + " dp " + text(dp);
  return slots > 0 ? result + " slots " + text(slots) : result;
}

Result<ShapeFacts> checkShape(const ModelTable &model, const ParallelShape &shape) {
  const int64_t ranks = shape.ranks();
  if (shape.tp < 1 || shape.ep < 1 || shape.dp < 1)
    return invalidArgument("tp = " + text(shape.tp) + ", ep = " + text(shape.ep) +
                           " and dp = " + text(shape.dp) + " must be at least 1");
  if (ranks % shape.dp != 0)
    return invalidArgument("dp = " + text(shape.dp) + " does not divide the " + text(ranks) +
                           " ranks");
  if (shape.dp > model.limits.seqs)
    return invalidArgument("dp = " + text(shape.dp) + " exceeds max_seqs = " +
                           text(model.limits.seqs) + "; a group needs a sequence of its own");
  for (const TableLayer &layer : model.layers) {
    if (layer.experts == 0)
      continue;
    if (shape.slots > 0 && shape.slots < layer.experts)
      return invalidArgument("slots = " + text(shape.slots) + " are fewer than the " +
                             text(layer.experts) + " experts; every expert needs one");
    if (shape.ep > slotsOf(shape, layer.experts))
      return invalidArgument("ep = " + text(shape.ep) + " exceeds the number of experts " +
                             text(layer.experts) +
                             "; use tp for the other ranks, or more slots to hold copies");
    if (shape.slots > layer.experts * shape.ep)
      return invalidArgument("slots = " + text(shape.slots) + " exceed " + text(layer.experts) +
                             " experts on each of " + text(shape.ep) +
                             " groups; a second copy in a group serves nobody");
    if (layer.expertWidth % shape.tp != 0)
      return invalidArgument("tp = " + text(shape.tp) + " does not divide the width " +
                             text(layer.expertWidth) + " of an expert");
  }
  if (const TableWeight *weight = cutsScales(model, Sharding::kExpertColumns, shape.tp))
    return invalidArgument("tp = " + text(shape.tp) + " leaves " + text(weight->k / shape.tp) +
                           " columns of " + weight->name + ", which splits its blocks of " +
                           text(columnBlock(*weight)) + " columns with one scale (" +
                           weight->format + "); use ep for the other ranks");

  ShapeFacts facts;
  facts.attentionTp =
      largestDivisor(ranks / shape.dp, [&](int64_t parts) { return splitsHeads(model, parts); });
  facts.ffnTp = largestDivisor(ranks, [&](int64_t parts) { return splitsFfn(model, parts); });
  facts.slotsPerGroup = ceilDiv(slotsOf(shape, model.maxExperts()), shape.ep);
  if (facts.attentionTp < ranks / shape.dp)
    facts.notes.push_back(
        "attention is shared by " + text(facts.attentionTp) + " of " + text(ranks / shape.dp) +
        " ranks of a group and repeated by the others: heads do not divide further");
  bool hasFfn = std::any_of(model.layers.begin(), model.layers.end(),
                            [](const TableLayer &layer) { return layer.ffnWidth > 0; });
  if (hasFfn && facts.ffnTp < ranks)
    facts.notes.push_back("dense parts and shared experts are shared by " + text(facts.ffnTp) +
                          " of " + text(ranks) + " ranks: " +
                          (cutsScales(model, Sharding::kFfnColumns, ranks) != nullptr
                               ? "finer parts would split blocks of scales"
                               : "their width does not divide further"));
  return facts;
}

TableWeight shardOf(const TableWeight &weight, const ModelTable &model, const ParallelShape &shape,
                    const ShapeFacts &facts) {
  TableWeight shard = weight;
  const int64_t atp = facts.attentionTp;
  auto slots = [&] {
    return ceilDiv(slotsOf(shape, model.layers[size_t(weight.layer)].experts), shape.ep);
  };
  switch (weight.sharding) {
  case Sharding::kWhole:
    break;
  case Sharding::kQkvRows: {
    const TableLayer &layer = model.layers[size_t(weight.layer)];
    int64_t kvHeads = std::max<int64_t>(layer.kvHeads / atp, 1);
    shard.n = layer.heads / atp * layer.headDim + kvHeads * (layer.headDim + layer.valueDim);
    break;
  }
  case Sharding::kHeadRows:
    shard.n = weight.n / atp;
    break;
  case Sharding::kKvHeadRows: {
    const TableLayer &layer = model.layers[size_t(weight.layer)];
    shard.n = weight.n / layer.kvHeads * std::max<int64_t>(layer.kvHeads / atp, 1);
    break;
  }
  case Sharding::kHeadColumns:
    shard.k = weight.k / atp;
    break;
  case Sharding::kHeadBlobs:
    shard.blobs = weight.blobs / atp;
    break;
  case Sharding::kExpertRows:
    shard.blobs = slots();
    shard.n = weight.n / shape.tp;
    break;
  case Sharding::kExpertColumns:
    shard.blobs = slots();
    shard.k = weight.k / shape.tp;
    break;
  case Sharding::kExpertWhole:
    shard.blobs = slots();
    break;
  case Sharding::kFfnRows:
    shard.n = weight.n / facts.ffnTp;
    break;
  case Sharding::kFfnColumns:
    shard.k = weight.k / facts.ffnTp;
    break;
  }
  if (shard.blobs != weight.blobs || shard.n != weight.n || shard.k != weight.k)
    shard.bytes = storedBytes(shard);
  return shard;
}

uint64_t RankMemory::weightBytes() const {
  return std::accumulate(weights.begin(), weights.end(), padding);
}
uint64_t RankMemory::slabBytes() const { return weightBytes() + kv + arena + io; }

RankMemory rankMemory(const ModelTable &model, const ParallelShape &shape, const ShapeFacts &facts,
                      const Target &target) {
  RankMemory memory;
  uint64_t end = 0;
  for (const TableWeight &weight : model.weights) {
    TableWeight shard = shardOf(weight, model, shape, facts);
    memory.weights[size_t(weight.role)] += shard.bytes;
    memory.padding += alignUp(end) - end;
    end = alignUp(end) + shard.bytes;
    if (weight.role == WeightRole::kExperts) {
      int64_t needed = ceilDiv(model.layers[size_t(weight.layer)].experts, shape.ep);
      memory.replicas += shard.bytes / uint64_t(shard.blobs) * uint64_t(shard.blobs - needed);
    }
  }
  for (const TableCache &cache : model.caches) {
    const TableLayer &layer = model.layers[size_t(cache.layer)];
    int64_t kvHeads = std::max<int64_t>(layer.kvHeads / facts.attentionTp, 1);
    memory.kv += alignUp(cache.latent ? cache.bytes
                                      : cache.bytes / uint64_t(layer.kvHeads) * uint64_t(kvHeads));
  }
  memory.arena = model.arenaBytes;
  // Gathered rows, and the sum that a reduction writes beside its source.
  if (shape.ranks() > 1)
    memory.arena += 2 * uint64_t(model.limits.tokens) * uint64_t(model.hidden) * 4;
  memory.io = model.ioBytes;
  memory.context = target.contextBytes;
  memory.collectives = shape.ranks() > 1 ? target.collectiveBytes : 0;
  memory.graphs = target.graphBytesPerLaunch * uint64_t(model.launches) * uint64_t(model.buckets);
  return memory;
}

double kvBytesPerToken(const ModelTable &model, const ShapeFacts &facts) {
  double bytes = 0, positions = double(model.limits.numPages) * double(model.limits.pageSize);
  for (const TableCache &cache : model.caches) {
    const TableLayer &layer = model.layers[size_t(cache.layer)];
    int64_t kvHeads = std::max<int64_t>(layer.kvHeads / facts.attentionTp, 1);
    bytes += double(cache.bytes) / positions *
             (cache.latent ? 1.0 : double(kvHeads) / double(layer.kvHeads));
  }
  return bytes;
}

} // namespace sluice::planner
