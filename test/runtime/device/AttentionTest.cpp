//===- AttentionTest.cpp - Attention against a naive reference --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Ragged batches over every variant of the family, odd shapes included, and the property that
// matters to users: a sequence gets the same answer whatever it shares a step with.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

#include <limits>

namespace sluice::host::test {
namespace {

/// Fills q and the cache positions that the batch's sequences have; the rest of the cache stays
/// NaN, so that a read outside a sequence shows.
void fillInputs(Launch &launch, const abi::AttentionParams &p, const Batch &batch, Random &random) {
  fillNormal(random, launch.arg("q"), batch.tokens() * p.qHeads * p.headDim);
  if (p.sinks)
    fillNormal(random, launch.arg("sinks"), p.qHeads);
  std::normal_distribution<float> normal;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    int64_t length = batch.sequences[s].cached + batch.sequences[s].fresh;
    for (int64_t position = 0; position < length; ++position)
      for (int64_t head = 0; head < p.kvHeads; ++head) {
        for (int64_t i = 0; i < p.headDim; ++i)
          writeElement(p.cacheType, launch.arg<void>("k_cache"),
                       cacheIndex(launch, int64_t(s), position, p.kvHeads, head, p.headDim, i),
                       normal(random));
        for (int64_t i = 0; i < p.valueDim; ++i)
          writeElement(p.cacheType, launch.arg<void>("v_cache"),
                       cacheIndex(launch, int64_t(s), position, p.kvHeads, head, p.valueDim, i),
                       normal(random));
      }
  }
}

std::vector<double> naiveAttention(Launch &launch, const abi::AttentionParams &p,
                                   const Batch &batch) {
  std::vector<double> out;
  const void *keys = launch.arg<void>("k_cache"), *values = launch.arg<void>("v_cache");
  for (int64_t token = 0; token < batch.tokens(); ++token) {
    int64_t seq = launch.arg<int32_t>("token_seq")[token];
    int64_t position = launch.arg<int32_t>("positions")[token];
    for (int64_t head = 0; head < p.qHeads; ++head) {
      int64_t kvHead = head / (p.qHeads / p.kvHeads);
      const float *q = launch.arg("q") + (token * p.qHeads + head) * p.headDim;
      std::vector<double> scores, result(size_t(p.valueDim), 0.0);
      double greatest =
          p.sinks ? double(launch.arg("sinks")[head]) : -std::numeric_limits<double>::infinity();
      int64_t first = 0;
      if (p.window > 0)
        first = std::max<int64_t>(first, position - p.window + 1);
      if (p.chunk > 0)
        first = std::max(first, position / p.chunk * p.chunk);
      for (int64_t key = first; key <= position; ++key) {
        double dot = 0;
        for (int64_t i = 0; i < p.headDim; ++i)
          dot += double(q[i]) *
                 readElement(p.cacheType, keys,
                             cacheIndex(launch, seq, key, p.kvHeads, kvHead, p.headDim, i));
        dot *= p.scale;
        if (p.softcap > 0)
          dot = p.softcap * std::tanh(dot / p.softcap);
        scores.push_back(dot);
        greatest = std::max(greatest, dot);
      }
      double sum = p.sinks ? std::exp(double(launch.arg("sinks")[head]) - greatest) : 0;
      for (int64_t key = first; key <= position; ++key) {
        double weight = std::exp(scores[size_t(key - first)] - greatest);
        sum += weight;
        for (int64_t i = 0; i < p.valueDim; ++i)
          result[size_t(i)] +=
              weight * readElement(p.cacheType, values,
                                   cacheIndex(launch, seq, key, p.kvHeads, kvHead, p.valueDim, i));
      }
      for (double value : result)
        out.push_back(value / sum);
    }
  }
  return out;
}

void checkAttention(const abi::AttentionParams &p, const Batch &batch, int64_t pageSize,
                    uint32_t seed) {
  Random random(seed);
  Launch launch(p, batch.dims(pageSize));
  batch.describe(launch, random, true);
  fillInputs(launch, p, batch, random);
  std::vector<double> expected = naiveAttention(launch, p, batch);
  runEverywhere(launch, {"out"},
                [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 5e-6); });
}

abi::AttentionParams heads(int64_t qHeads, int64_t kvHeads, int64_t headDim, int64_t valueDim = 0) {
  abi::AttentionParams p;
  p.qHeads = qHeads, p.kvHeads = kvHeads, p.headDim = headDim;
  p.valueDim = valueDim ? valueDim : headDim;
  p.scale = 1 / std::sqrt(double(headDim));
  return p;
}

const Batch kMixed{{{0, 1}, {13, 1}, {0, 37}, {100, 29}, {63, 1}, {64, 2}, {0, 0}, {127, 1}}};

TEST(Attention, HeadSharing) {
  checkAttention(heads(8, 2, 64), kMixed, 16, 1);
  checkAttention(heads(4, 4, 32), kMixed, 16, 2);
  checkAttention(heads(7, 1, 128), kMixed, 32, 3);
  // More heads per kv head than a decode part holds at once, and than a prefill part's rows.
  checkAttention(heads(40, 1, 8), Batch{{{5, 1}, {3, 4}}}, 4, 4);
  checkAttention(heads(200, 2, 8), Batch{{{5, 1}, {3, 9}}}, 4, 5);
}

TEST(Attention, OddShapes) {
  checkAttention(heads(6, 2, 5, 3), kMixed, 3, 10);
  checkAttention(heads(3, 1, 20, 17), kMixed, 7, 11);
  checkAttention(heads(2, 1, 72, 40), kMixed, 1, 12);
  checkAttention(heads(2, 2, 192, 128), kMixed, 64, 13);
  checkAttention(heads(1, 1, 1), kMixed, 5, 14);
  checkAttention(heads(2, 1, 1024, 1000), Batch{{{20, 1}, {9, 20}}}, 8, 15);
}

TEST(Attention, CacheTypes) {
  for (const char *type : {"f32", "bf16", "f16"}) {
    SCOPED_TRACE(type);
    abi::AttentionParams p = heads(6, 3, 64, 48);
    p.cacheType = type;
    checkAttention(p, kMixed, 16, 20);
    p = heads(3, 1, 21, 11);
    p.cacheType = type;
    checkAttention(p, kMixed, 5, 21);
  }
}

TEST(Attention, Masks) {
  abi::AttentionParams p = heads(4, 2, 32);
  for (int64_t window : {1, 7, 64, 1000}) {
    SCOPED_TRACE(window);
    p.window = window;
    checkAttention(p, kMixed, 16, 30);
  }
  p.window = 0;
  for (int64_t chunk : {1, 16, 50}) {
    SCOPED_TRACE(chunk);
    p.chunk = chunk;
    checkAttention(p, kMixed, 16, 31);
  }
  p.window = 9;
  checkAttention(p, kMixed, 16, 32);
}

TEST(Attention, SinksAndSoftcap) {
  abi::AttentionParams p = heads(4, 2, 32);
  p.sinks = true;
  checkAttention(p, kMixed, 16, 40);
  p.window = 5;
  checkAttention(p, kMixed, 16, 41);
  p.sinks = false, p.window = 0, p.softcap = 2;
  checkAttention(p, kMixed, 16, 42);
}

// Contexts beyond kAttentionSplitKeys go through partial results.
TEST(Attention, LongContexts) {
  const int64_t split = abi::kAttentionSplitKeys;
  const Batch batch{{{split - 1, 1}, {split, 1}, {3 * split + 17, 1}, {split + 5, 3}, {2, 1}}};
  abi::AttentionParams p = heads(4, 2, 16);
  checkAttention(p, batch, 16, 50);
  p.sinks = true;
  checkAttention(p, batch, 16, 51);
  p.cacheType = "bf16", p.window = 600;
  checkAttention(p, batch, 16, 52);
  p = heads(5, 1, 12, 7);
  p.chunk = 700;
  checkAttention(p, batch, 10, 53);
}

// More parts than the scratch holds, so that several waves are needed.
TEST(Attention, Waves) {
  Batch batch;
  for (int64_t i = 0; i < 150; ++i)
    batch.sequences.push_back({abi::kAttentionSplitKeys + i, 1});
  abi::AttentionParams p = heads(2, 1, 4);
  ASSERT_LT(abi::attentionPartials(batch.dims(64)), 300);
  checkAttention(p, batch, 64, 60);
}

// Large scores must neither overflow nor lose the weights' sum.
TEST(Attention, ExtremeScores) {
  abi::AttentionParams p = heads(4, 2, 32);
  p.scale = 40;
  Random random(70);
  Batch batch{{{600, 1}, {0, 50}}};
  Launch launch(p, batch.dims(16));
  batch.describe(launch, random, true);
  fillInputs(launch, p, batch, random);
  std::vector<double> expected = naiveAttention(launch, p, batch);
  // Scores are of the order of 200 and their float32 error of 1e-4 is that of the weights.
  runEverywhere(launch, {"out"},
                [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 1e-3); });
}

/// The outputs of one sequence of `length` tokens whose q and cache rows derive from `seed`,
/// computed in the given chunks, each in a step together with `others`.
std::vector<float> runInChunks(const abi::AttentionParams &p, const std::vector<int64_t> &chunks,
                               const std::vector<Batch::Sequence> &others) {
  int64_t length = 0;
  for (int64_t chunk : chunks)
    length += chunk;
  Random values(80);
  std::vector<float> q(size_t(length * p.qHeads * p.headDim)),
      keys(size_t(length * p.kvHeads * p.headDim)), vals(size_t(length * p.kvHeads * p.valueDim));
  fillNormal(values, q.data(), int64_t(q.size()));
  fillNormal(values, keys.data(), int64_t(keys.size()));
  fillNormal(values, vals.data(), int64_t(vals.size()));

  std::vector<float> out;
  int64_t done = 0;
  for (int64_t chunk : chunks) {
    Batch batch{others};
    const int64_t seq = int64_t(others.size()), firstToken = batch.tokens();
    batch.sequences.push_back({done, chunk});
    Random random(uint32_t(81 + done));
    Launch launch(p, batch.dims(16));
    batch.describe(launch, random, true);
    fillInputs(launch, p, batch, random);
    for (int64_t position = 0; position < done + chunk; ++position)
      for (int64_t head = 0; head < p.kvHeads; ++head) {
        for (int64_t i = 0; i < p.headDim; ++i)
          launch.arg("k_cache")[cacheIndex(launch, seq, position, p.kvHeads, head, p.headDim, i)] =
              keys[size_t((position * p.kvHeads + head) * p.headDim + i)];
        for (int64_t i = 0; i < p.valueDim; ++i)
          launch.arg("v_cache")[cacheIndex(launch, seq, position, p.kvHeads, head, p.valueDim, i)] =
              vals[size_t((position * p.kvHeads + head) * p.valueDim + i)];
      }
    const int64_t row = p.qHeads * p.headDim, outRow = p.qHeads * p.valueDim;
    std::copy_n(q.data() + done * row, chunk * row, launch.arg("q") + firstToken * row);
    launch.run(2);
    const float *result = launch.arg("out") + firstToken * outRow;
    out.insert(out.end(), result, result + chunk * outRow);
    done += chunk;
  }
  return out;
}

TEST(Attention, AnswersDoNotDependOnTheBatch) {
  for (int64_t window : {0, 40}) {
    abi::AttentionParams p = heads(6, 2, 24);
    p.window = window;
    for (HostIsa isa : usableIsas()) {
      ScopedIsa scope(isa);
      std::vector<float> alone = runInChunks(p, {90}, {});
      std::vector<double> expected(alone.begin(), alone.end());
      for (const auto &chunks :
           std::vector<std::vector<int64_t>>{{90}, {31, 59}, {1, 1, 16, 70, 1, 1}, {89, 1}}) {
        std::vector<float> mixed = runInChunks(p, chunks, {{3, 1}, {0, 20}, {700, 1}});
        EXPECT_LT(relativeError(mixed.data(), expected), 2e-6);
      }
      // With the same chunks, the others in the batch must not change a bit.
      EXPECT_EQ(runInChunks(p, {89, 1}, {}), runInChunks(p, {89, 1}, {{5, 8}, {9, 1}}));
    }
  }
}

TEST(Attention, RefusesHugeHeads) {
  abi::StepDims dims = kMixed.dims(16);
  auto kernel = createHostKernel(heads(1, 1, 1025), dims);
  ASSERT_FALSE(kernel.isOk());
  EXPECT_EQ(kernel.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(kernel.status().toString().find("1024"), std::string::npos);
}

} // namespace
} // namespace sluice::host::test
