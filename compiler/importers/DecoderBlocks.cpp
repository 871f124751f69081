//===- DecoderBlocks.cpp - Parts that many families share -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The order of what happens to queries and keys is the one that --sluice-fuse-qkv recognises and
// the kernels compute.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderBlocks.h"

using namespace mlir;

namespace sluice {

void readProjections(ModelBuilder &model, GroupedAttention &attention, int64_t hidden, bool qkvBias,
                     bool outBias, StringRef prefix) {
  auto read = [&](StringRef symbol, StringRef name, int64_t out, int64_t in, bool bias) {
    std::string key = (prefix + name).str();
    Projection projection = {model.weight(symbol, key + ".weight", {out, in})};
    if (bias)
      projection.bias = model.weight((symbol + "_bias").str(), key + ".bias", {out});
    return projection;
  };
  const AttentionSpec &spec = attention.spec;
  attention.q = read("attn.q", "q_proj", spec.heads * spec.headDim, hidden, qkvBias);
  attention.k = read("attn.k", "k_proj", spec.kvHeads * spec.headDim, hidden, qkvBias);
  attention.v = read("attn.v", "v_proj", spec.kvHeads * spec.valueDim, hidden, qkvBias);
  attention.o = read("attn.o", "o_proj", hidden, spec.heads * spec.valueDim, outBias);
}

Value groupedAttention(ModelBuilder &model, Value x, const GroupedAttention &attention) {
  auto project = [&](const Projection &projection) {
    return model.linear(x, projection.weight, projection.bias);
  };
  auto prepare = [&](const Projection &projection, FlatSymbolRefAttr norm, int64_t heads) {
    Value y = project(projection);
    if (norm)
      y = model.rmsNorm(y, norm, attention.qkNormEps,
                        attention.qkNorm == moe::QkNorm::PerHead ? heads : 1);
    if (attention.clip > 0)
      y = model.clamp(y, attention.clip);
    if (attention.rope)
      y = model.rope(y, heads, attention.rope);
    if (attention.qkNorm == moe::QkNorm::L2AfterRope)
      y = model.l2Norm(y, attention.qkNormEps, heads);
    return y;
  };
  Value q = prepare(attention.q, attention.qNorm, attention.spec.heads);
  if (attention.temperatureFloor > 0)
    q = model.temperature(q, attention.temperatureScale, attention.temperatureFloor);
  Value k = prepare(attention.k, attention.kNorm, attention.spec.kvHeads);
  Value v = project(attention.v);
  if (attention.clip > 0)
    v = model.clamp(v, attention.clip);
  Value attended = model.attention(q, k, v, attention.spec);
  return model.linear(attended, attention.o.weight, attention.o.bias);
}

GatedWeights readFfn(ModelBuilder &model, StringRef symbol, StringRef prefix, int64_t width,
                     int64_t hidden, const GatedNames &names) {
  auto read = [&](StringRef part, StringRef name, ArrayRef<int64_t> shape) {
    return model.weight((symbol + "." + part).str(), (prefix + name + ".weight").str(), shape);
  };
  return {.gate = read("gate", names.gate, {width, hidden}),
          .up = read("up", names.up, {width, hidden}),
          .down = read("down", names.down, {hidden, width})};
}

GatedWeights readExperts(ModelBuilder &model, StringRef pattern, int64_t count, int64_t width,
                         int64_t hidden, const GatedNames &names) {
  auto read = [&](StringRef symbol, StringRef name, ArrayRef<int64_t> shape) {
    return model.define(symbol,
                        model.stackedTensors((pattern + name + ".weight").str(), count, shape));
  };
  return {.gate = read("experts.gate", names.gate, {width, hidden}),
          .up = read("experts.up", names.up, {width, hidden}),
          .down = read("experts.down", names.down, {hidden, width})};
}

} // namespace sluice
