//===- TinyTable.h - A small model as a table ---------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_TEST_COMPILER_PLANNER_TINYTABLE_H
#define SLUICE_TEST_COMPILER_PLANNER_TINYTABLE_H

#include "compiler/planner/ModelTable.h"
#include "runtime/quant/PackedLayout.h"

namespace sluice::planner {

/// Two layers of grouped attention (8 heads on 4 key/value heads of 64) and 8 experts (top 2) of
/// width 512, hidden 256, in `format`. The first layer has shared experts of width 1024 too.
inline ModelTable tinyTable(const std::string &format = "bf16") {
  ModelTable model;
  model.name = "tiny";
  model.family = "mixtral";
  model.kvType = "bf16";
  model.hidden = 256;
  model.vocab = 1000;
  model.maxPosition = 8192;
  model.limits = {
      .tokens = 64, .seqs = 8, .seqLen = 1024, .logitRows = 8, .pageSize = 16, .numPages = 512};
  auto add = [&](const char *name, int layer, WeightRole role, Sharding sharding,
                 const char *layout, const std::string &stored, int64_t blobs, int64_t n,
                 int64_t k) {
    TableWeight weight{name, layer, role, sharding, layout, stored, blobs, n, k, 0};
    weight.bytes =
        weight.layout == "row_major"
            ? uint64_t(weight.elements()) * (stored == "f32" ? 4 : 2)
            : *quant::packedBytes(layout, *quant::WeightFormat::parse(stored), n, k, blobs);
    model.weights.push_back(weight);
  };
  add("embed", -1, WeightRole::kEmbedding, Sharding::kWhole, "row_major", "bf16", 1, 1000, 256);
  for (int layer = 0; layer < 2; ++layer) {
    add("norm", layer, WeightRole::kTables, Sharding::kWhole, "row_major", "f32", 1, 256, 1);
    add("qkv", layer, WeightRole::kAttention, Sharding::kQkvRows, "panel16", format, 1,
        8 * 64 + 4 * 128, 256);
    add("o", layer, WeightRole::kAttention, Sharding::kHeadColumns, "panel16", format, 1, 256, 512);
    add("router", layer, WeightRole::kRouter, Sharding::kWhole, "panel16", "bf16", 1, 8, 256);
    add("gate_up", layer, WeightRole::kExperts, Sharding::kExpertRows, "gate_up_panel16", format, 8,
        512, 256);
    add("down", layer, WeightRole::kExperts, Sharding::kExpertColumns, "panel16", format, 8, 256,
        512);
    TableLayer shape{.heads = 8,
                     .kvHeads = 4,
                     .headDim = 64,
                     .valueDim = 64,
                     .experts = 8,
                     .topK = 2,
                     .expertWidth = 512,
                     .launches = 9};
    if (layer == 0) {
      add("shared.gate_up", layer, WeightRole::kShared, Sharding::kFfnRows, "gate_up_panel16",
          format, 1, 1024, 256);
      add("shared.down", layer, WeightRole::kShared, Sharding::kFfnColumns, "panel16", format, 1,
          256, 1024);
      shape.ffnWidth = 1024;
    }
    model.layers.push_back(shape);
    uint64_t cache = 512 * 16 * 4 * 64 * 2;
    model.caches.push_back({layer, false, cache});
    model.caches.push_back({layer, false, cache});
  }
  add("head", -1, WeightRole::kHead, Sharding::kWhole, "panel16", "bf16", 1, 1000, 256);
  model.arenaBytes = 1 << 20;
  model.ioBytes = 1 << 16;
  model.launches = 21;
  model.buckets = 7;
  return model;
}

} // namespace sluice::planner

#endif // SLUICE_TEST_COMPILER_PLANNER_TINYTABLE_H
