//===- ModelTable.h - A model in numbers --------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What planning needs to know of a model, without MLIR: the shape of every layer, and every stored
// weight with its layout and format and the way in which ranks split it. Memory and cost are sums
// over this table, so both speak of exactly the bytes that a compilation would store.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_PLANNER_MODELTABLE_H
#define SLUICE_COMPILER_PLANNER_MODELTABLE_H

#include "sluice/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::planner {

/// What a weight is for, as memory is itemised. kTables are norms, biases of norms, rotation
/// frequencies and the like: small, and the same on every rank.
enum class WeightRole {
  kEmbedding,
  kAttention,
  kRouter,
  kExperts,
  kShared,
  kDense,
  kHead,
  kTables
};
inline constexpr int kWeightRoles = 8;
/// "embedding", "attention", "router", "experts", "shared experts", "dense", "head", "tables".
const char *weightRoleName(WeightRole role);

/// How ranks split a weight [blobs, n, k]; see ParallelShape for who splits by what.
enum class Sharding {
  kWhole,         ///< the same on every rank
  kQkvRows,       ///< rows are query heads, then key and value heads
  kHeadRows,      ///< rows belong to query heads
  kHeadColumns,   ///< columns belong to query heads
  kHeadBlobs,     ///< one blob per query head
  kExpertRows,    ///< blobs are experts; rows split by tp
  kExpertColumns, ///< blobs are experts; columns split by tp
  kExpertWhole,   ///< blobs are experts
  kFfnRows,       ///< rows split over the ranks of a feed-forward part
  kFfnColumns,    ///< columns likewise
};

/// One stored weight of a program for one rank.
struct TableWeight {
  std::string name; ///< "layers.3.attn.qkv"
  int layer = -1;   ///< -1: of no layer
  WeightRole role = WeightRole::kTables;
  Sharding sharding = Sharding::kWhole;
  std::string layout;              ///< as in plan.weight: row_major, panel16, gate_up_panel16
  std::string format;              ///< "bf16", "f8e4m3:group128", ...
  int64_t blobs = 1, n = 1, k = 1; ///< of gate_up_panel16: n rows of each half
  uint64_t bytes = 0;              ///< as the compiled plan of one rank states them

  bool isPaired() const { return layout == "gate_up_panel16"; }
  /// Numbers in the weight, padding not counted.
  int64_t elements() const { return blobs * n * k * (isPaired() ? 2 : 1); }
};

/// One cache buffer of a program for one rank.
struct TableCache {
  int layer = 0;
  bool latent = false; ///< one row for all heads: not split
  uint64_t bytes = 0;
};

struct TableLayer {
  int64_t heads = 0, kvHeads = 0, headDim = 0, valueDim = 0;
  int64_t latent = 0;            ///< width of a latent cache's row; 0 = keys and values
  bool splitsHeads = true;       ///< false: a norm over all heads ties them together
  int64_t window = 0;            ///< positions a query sees at most; 0 = all
  int64_t experts = 0, topK = 0; ///< 0 without routed experts
  int64_t expertWidth = 0;       ///< I of a routed expert
  int64_t ffnWidth = 0;          ///< I of the dense part or of the shared experts; 0 without
  int64_t launches = 0;          ///< kernels of one step
};

/// The worst case of a step, as in moe.limits.
struct TableLimits {
  int64_t tokens = 0, seqs = 0, seqLen = 0, logitRows = 0, pageSize = 0, numPages = 0;
};

struct ModelTable {
  std::string name;         ///< for people: folder of the checkpoint
  std::string family;       ///< "deepseek_v3"
  std::string kvType;       ///< "f32", "bf16", "f16"
  bool storesCodes = false; ///< the checkpoint is quantised, whatever it is converted to
  int64_t hidden = 0, vocab = 0, maxPosition = 0;
  TableLimits limits;
  std::vector<TableLayer> layers;
  std::vector<TableWeight> weights;     ///< in the order of the weights slab
  std::vector<TableCache> caches;       ///< in the order of the kv slab
  uint64_t arenaBytes = 0, ioBytes = 0; ///< of one rank
  int64_t launches = 0;                 ///< kernels of one step, all layers and the rest
  int64_t buckets = 1;                  ///< programs of a plan

  /// All numbers of the model, and those that one token uses (experts that it does not choose and
  /// the rows of the embedding table that it does not look up left out).
  int64_t parameters() const;
  int64_t activeParameters() const;
  /// Bytes of all weights as one rank stores them, without padding between weights.
  uint64_t weightBytes() const;
  /// The format that most bytes of the weights are stored in.
  std::string mainFormat() const;
  int64_t moeLayers() const;
  int64_t maxExperts() const; ///< experts of the layer with the most
};

} // namespace sluice::planner

#endif // SLUICE_COMPILER_PLANNER_MODELTABLE_H
