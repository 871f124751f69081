//===- RankMemory.cpp - Sharding rules as arithmetic ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/RankMemory.h"

#include "passes/Partition/RankLayout.h"
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

/// Whether every part has columns and none cuts a block of them with one scale.
template <typename Part> bool splitsColumns(const TableWeight &weight, int64_t parts, Part part) {
  int64_t block = columnBlock(weight);
  for (int64_t i = 0; i < parts; ++i) {
    ShardRange range = part(i);
    bool endsBlock = range.end % block == 0 || range.end == weight.k;
    if (range.size() == 0 || range.begin % block != 0 || !endsBlock)
      return false;
  }
  return true;
}

HeadShard headShard(const TableLayer &layer, int64_t parts, int64_t index) {
  if (layer.latent > 0)
    return {{index * layer.heads / parts, (index + 1) * layer.heads / parts}, {0, 1}};
  return *headShardOf(layer.heads, layer.kvHeads, parts, index);
}

bool hasHeadShards(const TableLayer &layer, int64_t parts) {
  if (layer.latent > 0)
    return layer.heads >= parts;
  for (int64_t i = 0; i < parts; ++i)
    if (!headShardOf(layer.heads, layer.kvHeads, parts, i))
      return false;
  return true;
}

/// Whether the heads of every layer can be dealt out to `parts` ranks.
bool splitsHeads(const ModelTable &model, int64_t parts) {
  for (const TableLayer &layer : model.layers)
    if (!layer.splitsHeads || !hasHeadShards(layer, parts))
      return false;
  for (const TableWeight &weight : model.weights) {
    if (weight.sharding != Sharding::kHeadColumns)
      continue;
    const TableLayer &layer = model.layers[size_t(weight.layer)];
    int64_t width = weight.k / layer.heads;
    if (!splitsColumns(weight, parts, [&](int64_t i) {
          ShardRange heads = headShard(layer, parts, i).query;
          return ShardRange{heads.begin * width, heads.end * width};
        }))
      return false;
  }
  return true;
}

template <typename Fits> int64_t largestDivisor(int64_t number, Fits fits) {
  for (int64_t parts = number; parts > 1; --parts)
    if (number % parts == 0 && fits(parts))
      return parts;
  return 1;
}

int64_t largestShard(int64_t extent, int64_t parts) {
  int64_t most = 0;
  for (int64_t i = 0; i < parts; ++i)
    most = std::max(most, sluice::shardOf(extent, parts, i).size());
  return most;
}

/// Query heads and key/value heads of the rank with the most of them.
std::pair<int64_t, int64_t> largestHeads(const TableLayer &layer, int64_t parts) {
  std::pair<int64_t, int64_t> most{0, 0};
  for (int64_t i = 0; i < parts; ++i) {
    HeadShard shard = headShard(layer, parts, i);
    if (std::pair pair(shard.query.size(), shard.kv.size());
        pair.first * layer.headDim + pair.second * (layer.headDim + layer.valueDim) >
        most.first * layer.headDim + most.second * (layer.headDim + layer.valueDim))
      most = pair;
  }
  return most;
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

/// Bytes of a page of the rank with the most key/value heads.
uint64_t cacheBytesPerPage(const TableCache &cache, const ModelTable &model,
                           const ShapeFacts &facts) {
  uint64_t bytes = cache.bytes / uint64_t(model.limits.numPages);
  const TableLayer &layer = model.layers[size_t(cache.layer)];
  if (cache.latent)
    return bytes;
  int64_t most = 0;
  for (int64_t i = 0; i < facts.attentionTp; ++i)
    most = std::max(most, headShard(layer, facts.attentionTp, i).kv.size());
  return bytes / uint64_t(layer.kvHeads) * uint64_t(most);
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
  }
  for (const TableWeight &weight : model.weights) {
    if (weight.sharding != Sharding::kExpertColumns)
      continue;
    if (splitsColumns(weight, shape.tp,
                      [&](int64_t i) { return sluice::shardOf(weight.k, shape.tp, i); }))
      continue;
    if (weight.k < shape.tp)
      return invalidArgument("tp = " + text(shape.tp) + " exceeds the width " + text(weight.k) +
                             " of an expert; use ep for the other ranks");
    return invalidArgument("tp = " + text(shape.tp) + " leaves about " + text(weight.k / shape.tp) +
                           " of " + text(weight.k) + " columns of " + weight.name +
                           " to a rank, which cuts its blocks of " + text(columnBlock(weight)) +
                           " columns with one scale (" + weight.format +
                           "); use ep for the other ranks");
  }

  ShapeFacts facts;
  const int64_t groupSize = ranks / shape.dp;
  facts.attentionTp =
      largestDivisor(groupSize, [&](int64_t parts) { return splitsHeads(model, parts); });
  facts.slotsPerGroup = ceilDiv(slotsOf(shape, model.maxExperts()), shape.ep);
  facts.pages = model.limits.numPages;
  if (shape.dp > 1)
    facts.pages = std::max(ceilDiv(model.limits.seqLen, model.limits.pageSize),
                           ceilDiv(model.limits.numPages, shape.dp));
  facts.ffn.resize(model.layers.size());
  int64_t fewest = ranks;
  for (const TableWeight &weight : model.weights) {
    if (weight.sharding != Sharding::kFfnColumns)
      continue;
    auto fits = [&](int64_t parts) {
      return splitsColumns(weight, parts,
                           [&](int64_t i) { return sluice::shardOf(weight.k, parts, i); });
    };
    FfnSplit &split = facts.ffn[size_t(weight.layer)];
    split.overAll = fits(ranks);
    split.parts = split.overAll ? ranks : largestDivisor(groupSize, fits);
    fewest = std::min(fewest, split.parts);
  }
  if (facts.attentionTp < groupSize)
    facts.notes.push_back("attention is shared by " + text(facts.attentionTp) + " of the " +
                          text(groupSize) +
                          " ranks of a group and repeated by the others: its heads cannot be dealt "
                          "out further");
  if (fewest < ranks)
    facts.notes.push_back("dense parts or shared experts are shared by " + text(fewest) + " of " +
                          text(ranks) +
                          " ranks and repeated by the others: their width cannot be "
                          "dealt out further without cutting blocks of scales");
  return facts;
}

TableWeight shardOf(const TableWeight &weight, const ModelTable &model, const ParallelShape &shape,
                    const ShapeFacts &facts) {
  TableWeight shard = weight;
  const int64_t atp = facts.attentionTp;
  auto slots = [&] {
    return ceilDiv(slotsOf(shape, model.layers[size_t(weight.layer)].experts), shape.ep);
  };
  auto layer = [&]() -> const TableLayer & { return model.layers[size_t(weight.layer)]; };
  auto heads = [&] { return largestHeads(layer(), atp); };
  auto ffn = [&](int64_t width) {
    return largestShard(width, facts.ffn[size_t(weight.layer)].parts);
  };
  switch (weight.sharding) {
  case Sharding::kWhole:
    break;
  case Sharding::kQkvRows: {
    auto [query, kv] = heads();
    shard.n = query * layer().headDim + kv * (layer().headDim + layer().valueDim);
    break;
  }
  case Sharding::kHeadRows:
    shard.n = weight.n / layer().heads * heads().first;
    break;
  case Sharding::kHeadColumns:
    shard.k = weight.k / layer().heads * heads().first;
    break;
  case Sharding::kHeadBlobs:
    shard.blobs = heads().first;
    break;
  case Sharding::kExpertRows: {
    // A bias holds the rows of gate and up one after the other.
    int64_t width = layer().expertWidth;
    shard.blobs = slots();
    shard.n = weight.n / width * largestShard(width, shape.tp);
    break;
  }
  case Sharding::kExpertColumns:
    shard.blobs = slots();
    shard.k = largestShard(weight.k, shape.tp);
    break;
  case Sharding::kExpertWhole:
    shard.blobs = slots();
    break;
  case Sharding::kFfnRows: {
    int64_t width = layer().ffnWidth;
    shard.n = weight.n / width * ffn(width);
    break;
  }
  case Sharding::kFfnColumns:
    shard.k = ffn(weight.k);
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
  for (const TableCache &cache : model.caches)
    memory.kv += alignUp(cacheBytesPerPage(cache, model, facts) * uint64_t(facts.pages));
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
  uint64_t bytes = 0;
  for (const TableCache &cache : model.caches)
    bytes += cacheBytesPerPage(cache, model, facts);
  return double(bytes) / double(model.limits.pageSize);
}

} // namespace sluice::planner
