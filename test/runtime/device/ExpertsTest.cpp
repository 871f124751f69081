//===- ExpertsTest.cpp - Grouped products of experts -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// experts_gate_up and experts_down over random and uneven routings against references in double,
// and the independence of a token's bits from the batch, which crosses the switch between the fused
// and the grouped way of combining.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Kernels.h"

#include "test/runtime/device/GatedReference.h"
#include "test/runtime/device/HostTesting.h"

namespace sluice::host {
namespace {

using namespace testing;

constexpr int64_t kExperts = 12, kTopK = 3, kHidden = 72, kWidth = 40, kCapacity = 300;
constexpr abi::StepDims kDims = {kCapacity, 4, 4, 4, 16, 64};

/// What the router leaves behind for some tokens.
struct Routing {
  int64_t tokens;
  std::vector<int32_t> ids, offsets, order, inverse;
  Floats weights;
};

Routing sortByExpert(std::vector<int32_t> ids, unsigned seed) {
  Routing out;
  out.tokens = int64_t(ids.size()) / kTopK;
  out.ids = std::move(ids);
  out.weights = randomFloats(int64_t(out.ids.size()), seed);
  out.inverse.resize(out.ids.size());
  out.offsets = {0};
  for (int32_t expert = 0; expert < kExperts; ++expert) {
    for (size_t pair = 0; pair < out.ids.size(); ++pair) {
      if (out.ids[pair] == expert) {
        out.inverse[pair] = int32_t(out.order.size());
        out.order.push_back(int32_t(pair));
      }
    }
    out.offsets.push_back(int32_t(out.order.size()));
  }
  return out;
}

/// Distinct experts per token; with `skewed`, everybody's first choice is expert 5.
std::vector<int32_t> randomIds(int64_t tokens, bool skewed, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> out;
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<int32_t> pool;
    for (int32_t e = 0; e < kExperts; ++e)
      if (!skewed || e != 5)
        pool.push_back(e);
    std::shuffle(pool.begin(), pool.end(), random);
    if (skewed)
      pool.insert(pool.begin(), 5);
    out.insert(out.end(), pool.begin(), pool.begin() + kTopK);
  }
  return out;
}

struct Layer {
  explicit Layer(const char *format = "bf16") : format(format) {}
  const char *format;
  PackedWeights gateUp = packRandom("gate_up_panel16", format, kWidth, kHidden, kExperts, 50);
  PackedWeights down = packRandom("panel16", format, kHidden, kWidth, kExperts, 150);
  AlignedBuffer gateUpBias = AlignedBuffer::of(randomFloats(kExperts * 2 * kWidth, 51));
  AlignedBuffer downBias = AlignedBuffer::of(randomFloats(kExperts * kHidden, 52));
};

struct Options {
  bool bias = false, weightOnInput = false;
  abi::GatedActivation act = {};
};

Floats runGateUp(const Layer &layer, const Routing &routing, const Floats &x, const Options &o,
                 ThreadPool &pool) {
  abi::ExpertsGateUpParams params{kExperts,     kTopK,  kWidth,          kHidden,
                                  layer.format, o.bias, o.weightOnInput, o.act};
  auto kernel = createExpertsGateUp(params, kDims);
  EXPECT_TRUE(kernel.isOk()) << kernel.status().toString();
  abi::StepHeader header{int32_t(routing.tokens), 1, 1, {}};
  auto in = AlignedBuffer::of(x), weights = AlignedBuffer::of(routing.weights);
  auto offsets = AlignedBuffer::of(routing.offsets), order = AlignedBuffer::of(routing.order);
  AlignedBuffer out(size_t(routing.tokens * kTopK * kWidth) * sizeof(float));
  void *args[] = {&header,
                  in.data(),
                  offsets.data(),
                  order.data(),
                  weights.data(),
                  layer.gateUp.data.data(),
                  o.bias ? layer.gateUpBias.data() : nullptr,
                  out.data()};
  (*kernel)->run(args, pool);
  return out.values<float>();
}

Floats runDown(const Layer &layer, const Routing &routing, const Floats &h, const Options &o,
               ThreadPool &pool) {
  abi::ExpertsDownParams params{kExperts,     kTopK,  kHidden,        kWidth,
                                layer.format, o.bias, o.weightOnInput};
  auto kernel = createExpertsDown(params, kDims);
  EXPECT_TRUE(kernel.isOk()) << kernel.status().toString();
  abi::StepHeader header{int32_t(routing.tokens), 1, 1, {}};
  auto in = AlignedBuffer::of(h), weights = AlignedBuffer::of(routing.weights);
  auto offsets = AlignedBuffer::of(routing.offsets), order = AlignedBuffer::of(routing.order);
  auto inverse = AlignedBuffer::of(routing.inverse);
  AlignedBuffer out(size_t(routing.tokens * kHidden) * sizeof(float));
  AlignedBuffer scratch(size_t(routing.tokens * kTopK * kHidden) * sizeof(float));
  void *args[] = {&header,
                  in.data(),
                  offsets.data(),
                  order.data(),
                  inverse.data(),
                  weights.data(),
                  layer.down.data.data(),
                  o.bias ? layer.downBias.data() : nullptr,
                  out.data(),
                  scratch.data()};
  (*kernel)->run(args, pool);
  return out.values<float>();
}

Floats referenceGateUp(const Layer &layer, const Routing &routing, const Floats &x,
                       const Options &o) {
  Floats bias = layer.gateUpBias.values<float>(), out;
  for (int32_t pair : routing.order) {
    auto expert = size_t(routing.ids[size_t(pair)]);
    const float *row = x.data() + pair / kTopK * kHidden;
    double factor = o.weightOnInput ? double(routing.weights[size_t(pair)]) : 1;
    for (int64_t c = 0; c < kWidth; ++c) {
      double gate = factor * dot(row, layer.gateUp.gate[expert], c, kHidden);
      double up = factor * dot(row, layer.gateUp.up[expert], c, kHidden);
      if (o.bias) {
        gate += double(bias[expert * 2 * kWidth + size_t(c)]);
        up += double(bias[expert * 2 * kWidth + kWidth + size_t(c)]);
      }
      out.push_back(float(gatedReference(o.act, gate, up)));
    }
  }
  return out;
}

Floats referenceDown(const Layer &layer, const Routing &routing, const Floats &h,
                     const Options &o) {
  Floats bias = layer.downBias.values<float>(), out;
  for (int64_t token = 0; token < routing.tokens; ++token) {
    for (int64_t c = 0; c < kHidden; ++c) {
      double sum = 0;
      for (int64_t pair = token * kTopK; pair < (token + 1) * kTopK; ++pair) {
        auto expert = size_t(routing.ids[size_t(pair)]);
        double y = dot(h.data() + routing.inverse[size_t(pair)] * kWidth, layer.down.gate[expert],
                       c, kWidth);
        y += o.bias ? double(bias[expert * kHidden + size_t(c)]) : 0;
        sum += (o.weightOnInput ? 1 : double(routing.weights[size_t(pair)])) * y;
      }
      out.push_back(float(sum));
    }
  }
  return out;
}

TEST(Experts, EqualTheReference) {
  Layer layer;
  ThreadPool pool(3);
  std::vector<Options> options = {{}, {true, false, {}}, {true, true, {}}};
  for (const abi::GatedActivation &act : gatedActivations())
    options.push_back({true, false, act});
  forEachIsa([&] {
    for (const Options &o : options) {
      for (int64_t tokens : {1, 2, 9, 120}) {
        for (bool skewed : {false, true}) {
          SCOPED_TRACE(std::to_string(tokens) + (skewed ? " skewed" : ""));
          auto routing = sortByExpert(randomIds(tokens, skewed, 60), 61);
          Floats x = randomFloats(tokens * kHidden, 62);
          Floats h = referenceGateUp(layer, routing, x, o);
          expectNear(runGateUp(layer, routing, x, o, pool), h, 1e-5);
          expectNear(runDown(layer, routing, h, o, pool), referenceDown(layer, routing, h, o),
                     1e-5);
        }
      }
    }
  });
}

// Two ranks with half of the experts each: what one leaves out, the other adds.
TEST(Experts, SumsOfRanksAreTheWholeSum) {
  Layer layer;
  ThreadPool pool(2);
  const Options o{true, false, {}};
  for (int64_t tokens : {1, 9, 120}) {
    auto routing = sortByExpert(randomIds(tokens, true, 63), 64);
    Floats h = randomFloats(tokens * kTopK * kWidth, 65);
    const int32_t split = routing.offsets[kExperts / 2];
    auto first = routing, second = routing;
    for (size_t expert = 0; expert <= size_t(kExperts); ++expert) {
      first.offsets[expert] = std::min(routing.offsets[expert], split);
      second.offsets[expert] = std::max(routing.offsets[expert] - split, 0);
    }
    for (size_t pair = 0; pair < routing.inverse.size(); ++pair) {
      const int32_t row = routing.inverse[pair];
      first.inverse[pair] = row < split ? row : -1;
      second.inverse[pair] = row < split ? -1 : row - split;
    }
    Floats sum = runDown(layer, first, h, o, pool);
    Floats rest = runDown(layer, second, Floats(h.begin() + split * kWidth, h.end()), o, pool);
    for (size_t i = 0; i < sum.size(); ++i)
      sum[i] += rest[i];
    expectNear(sum, referenceDown(layer, routing, h, o), 1e-5);
  }
}

TEST(Experts, QuantisedWeightsEqualTheReference) {
  ThreadPool pool(2);
  const Options o{true, false, {}};
  for (const char *format : {"f8e4m3:group32", "i8:channel", "i4:group32", "mxfp4", "nvfp4"}) {
    Layer layer(format);
    forEachIsa([&] {
      for (int64_t tokens : {1, 9, 120}) {
        SCOPED_TRACE(format + std::string(" ") + std::to_string(tokens));
        auto routing = sortByExpert(randomIds(tokens, false, 60), 61);
        Floats x = randomFloats(tokens * kHidden, 62);
        Floats h = referenceGateUp(layer, routing, x, o);
        expectNear(runGateUp(layer, routing, x, o, pool), h, 1e-5);
        expectNear(runDown(layer, routing, h, o, pool), referenceDown(layer, routing, h, o), 1e-5);
      }
    });
  }
}

TEST(Experts, BitsOfATokenDoNotDependOnBatchOrThreads) {
  Layer layer("i4:group32");
  const Options o{true, false, {}};
  const int64_t tokens = 250;
  ThreadPool one(1), four(4);
  forEachIsa([&] {
    auto ids = randomIds(tokens, true, 70);
    auto routing = sortByExpert(ids, 71);
    Floats x = randomFloats(tokens * kHidden, 72);
    Floats h = runGateUp(layer, routing, x, o, one);
    EXPECT_EQ(runGateUp(layer, routing, x, o, four), h);
    Floats all = runDown(layer, routing, h, o, one);
    EXPECT_EQ(runDown(layer, routing, h, o, four), all);
    for (int64_t batch : {1, 5, 10, 11, 60}) {
      auto part = sortByExpert({ids.begin(), ids.begin() + batch * kTopK}, 71);
      std::copy_n(routing.weights.begin(), batch * kTopK, part.weights.begin());
      Floats partX(x.begin(), x.begin() + batch * kHidden);
      Floats partH = runGateUp(layer, part, partX, o, four);
      EXPECT_EQ(runDown(layer, part, partH, o, four),
                Floats(all.begin(), all.begin() + batch * kHidden))
          << batch;
    }
  });
}

TEST(Experts, NoTokensIsNoWork) {
  Layer layer;
  ThreadPool pool(2);
  auto routing = sortByExpert({}, 1);
  EXPECT_TRUE(runGateUp(layer, routing, {}, {}, pool).empty());
  EXPECT_TRUE(runDown(layer, routing, {}, {}, pool).empty());
}

TEST(Experts, TooManyExpertsAreRefused) {
  abi::ExpertsDownParams params;
  params.experts = 5000, params.topK = 1, params.n = params.k = 16;
  EXPECT_EQ(createExpertsDown(params, kDims).status().code(), StatusCode::kUnsupported);
}

} // namespace
} // namespace sluice::host
