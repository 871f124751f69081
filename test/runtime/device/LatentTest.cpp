//===- LatentTest.cpp - Latent attention against naive references -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Each of the three launches by itself, and all of them against attention that expands keys and
// values per head, which is how the models define it.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/HostTesting.h"
#include "test/runtime/device/KernelHarness.h"

namespace sluice::host::test {
namespace {

const Batch kBatch{{{0, 5}, {9, 1}, {30, 3}, {70, 1}}};
const Batch kMixed{{{0, 1}, {13, 1}, {0, 37}, {100, 29}, {63, 1}, {64, 2}, {0, 0}, {127, 1}}};

using Doubles = std::vector<double>;

/// Rotates one head's rotary part as Qkv's reference does.
void rotate(double *x, const abi::RopeParams &rope, int64_t offset, const float *table,
            int64_t position, int64_t length) {
  const int64_t half = rope.dim / 2;
  const float *frequencies = rope.tables == 2 && length > rope.switchLength ? table + half : table;
  for (int64_t i = 0; i < half; ++i) {
    double &a = x[offset + (rope.interleaved ? 2 * i : i)];
    double &b = x[offset + (rope.interleaved ? 2 * i + 1 : i + half)];
    const double angle = float(position) * frequencies[i]; // rounded to float32
    const double c = rope.magnitude * std::cos(angle), s = rope.magnitude * std::sin(angle);
    const double first = a * c - b * s;
    b = b * c + a * s;
    a = first;
  }
}

/// Random matrices [n, k] of all heads in the argument "weight", and their values.
std::vector<testing::Floats> packHeads(Launch &launch, const std::string &format, int64_t heads,
                                       int64_t n, int64_t k, unsigned seed) {
  testing::PackedWeights packed = testing::packRandom("panel16", format.c_str(), n, k, heads, seed);
  EXPECT_EQ(int64_t(packed.layout.totalBytes()), launch.bytes("weight"));
  std::memcpy(launch.arg<void>("weight"), packed.data.data(), packed.layout.totalBytes());
  return packed.gate;
}

void fillFrequencies(Launch &launch, Random &random) {
  for (int64_t i = 0; i < launch.bytes("rope") / 4; ++i)
    launch.arg("rope")[i] = std::uniform_real_distribution<float>(0, 1)(random);
}

struct TokenPlace {
  int64_t seq, position, length;
};
TokenPlace placeOf(Launch &launch, int64_t token) {
  const int64_t seq = launch.arg<int32_t>("token_seq")[token];
  return {seq, launch.arg<int32_t>("positions")[token], launch.arg<int32_t>("kv_lengths")[seq]};
}

//===------------------------------------------------------------------------===//
// latent_query
//===------------------------------------------------------------------------===//

void checkQuery(const abi::LatentQueryParams &p, uint32_t seed, const Batch &batch = kBatch) {
  Random random(seed);
  Launch launch(p, batch.dims(8));
  batch.describe(launch, random, false);
  const int64_t head = p.nope + p.rotary, wide = p.latent + p.rotary;
  fillNormal(random, launch.arg("x"), batch.tokens() * p.heads * head);
  fillFrequencies(launch, random);
  auto weights = packHeads(launch, p.format, p.heads, p.latent, p.nope, seed);

  Doubles expected(size_t(batch.tokens() * p.heads * wide));
  for (int64_t token = 0; token < batch.tokens(); ++token) {
    const TokenPlace place = placeOf(launch, token);
    for (int64_t h = 0; h < p.heads; ++h) {
      const float *x = launch.arg("x") + (token * p.heads + h) * head;
      double *out = expected.data() + (token * p.heads + h) * wide;
      for (int64_t row = 0; row < p.latent; ++row)
        out[row] = testing::dot(x, weights[size_t(h)], row, p.nope);
      std::copy_n(x + p.nope, p.rotary, out + p.latent);
      if (p.rope.dim > 0)
        rotate(out + p.latent, p.rope, p.rope.offset - p.nope, launch.arg("rope"), place.position,
               place.length);
    }
  }
  runEverywhere(launch, {"out"},
                [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 5e-6); });
}

abi::LatentQueryParams queries(int64_t heads, int64_t latent, int64_t nope, int64_t rotary) {
  abi::LatentQueryParams p;
  p.heads = heads, p.latent = latent, p.nope = nope, p.rotary = rotary;
  p.format = "f32";
  p.rope.dim = rotary / 2 * 2, p.rope.offset = p.rope.dim ? nope : 0, p.rope.interleaved = true;
  return p;
}

TEST(LatentQuery, Shapes) {
  checkQuery(queries(4, 32, 16, 8), 1);
  checkQuery(queries(16, 512, 128, 64), 2);
  checkQuery(queries(3, 21, 5, 6), 3);
  checkQuery(queries(1, 1, 1, 0), 4);
  checkQuery(queries(2, 33, 7, 4), 5, Batch{{{0, 200}, {3, 1}}});
}

TEST(LatentQuery, Formats) {
  for (const char *format : {"bf16", "f16", "f8e4m3:group16", "i8:channel", "i4:group32"}) {
    SCOPED_TRACE(format);
    abi::LatentQueryParams p = queries(4, 48, 32, 8);
    p.format = format;
    checkQuery(p, 10);
  }
}

TEST(LatentQuery, Rotations) {
  abi::LatentQueryParams p = queries(4, 32, 16, 20);
  p.rope.interleaved = false, p.rope.magnitude = 1.3;
  checkQuery(p, 20);
  p.rope.dim = 12, p.rope.offset = 22;
  checkQuery(p, 21);
  p.rope.tables = 2, p.rope.switchLength = 20;
  checkQuery(p, 22);
  p.rope = {};
  checkQuery(p, 23);
}

//===------------------------------------------------------------------------===//
// latent_append
//===------------------------------------------------------------------------===//

void checkAppend(const abi::LatentAppendParams &p, uint32_t seed, int64_t pageSize = 8) {
  Random random(seed);
  Launch launch(p, kBatch.dims(pageSize));
  kBatch.describe(launch, random, false);
  const int64_t width = p.latent + p.rotary, tokens = kBatch.tokens();
  fillNormal(random, launch.arg("x"), tokens * width);
  fillNormal(random, launch.arg("norm"), p.latent);
  fillFrequencies(launch, random);
  // Kernels must not touch the cache outside the step's slots.
  std::memset(launch.arg<void>("cache"), 0x11, size_t(launch.bytes("cache")));

  Doubles expected;
  for (int64_t token = 0; token < tokens; ++token) {
    const TokenPlace place = placeOf(launch, token);
    const float *x = launch.arg("x") + token * width;
    Doubles row(x, x + width);
    double square = 0;
    for (int64_t i = 0; i < p.latent; ++i)
      square += row[size_t(i)] * row[size_t(i)] / double(p.latent);
    for (int64_t i = 0; i < p.latent; ++i)
      row[size_t(i)] *= launch.arg("norm")[i] / std::sqrt(square + p.eps);
    if (p.rope.dim > 0)
      rotate(row.data() + p.latent, p.rope, p.rope.offset, launch.arg("rope"), place.position,
             place.length);
    expected.insert(expected.end(), row.begin(), row.end());
  }
  const double tolerance = p.cacheType == "f32" ? 5e-6 : p.cacheType == "f16" ? 5e-4 : 4e-3;
  runEverywhere(launch, {"cache"}, [&] {
    std::vector<float> stored;
    for (int64_t token = 0; token < tokens; ++token) {
      const TokenPlace place = placeOf(launch, token);
      for (int64_t i = 0; i < width; ++i)
        stored.push_back(
            readElement(p.cacheType, launch.arg<void>("cache"),
                        cacheIndex(launch, place.seq, place.position, 1, 0, width, i)));
    }
    EXPECT_LT(relativeError(stored.data(), expected), tolerance);
    int64_t touched = 0;
    const auto *bytes = launch.arg<unsigned char>("cache");
    for (int64_t i = 0; i < launch.bytes("cache"); ++i)
      touched += bytes[i] != 0x11;
    EXPECT_LE(touched, tokens * width * bytesOf(p.cacheType));
  });
}

TEST(LatentAppend, ShapesCachesAndPages) {
  for (const char *cache : {"f32", "bf16", "f16"}) {
    SCOPED_TRACE(cache);
    abi::LatentAppendParams p;
    p.cacheType = cache, p.latent = 512, p.rotary = 64;
    p.rope.dim = 64, p.rope.interleaved = true;
    checkAppend(p, 30);
    p.latent = 19, p.rotary = 7, p.rope.dim = 6, p.rope.offset = 1, p.eps = 0.1;
    checkAppend(p, 31, 3);
    p.rope.tables = 2, p.rope.switchLength = 20, p.rope.interleaved = false;
    checkAppend(p, 32, 1);
    p.rope = {}, p.rotary = 0;
    checkAppend(p, 33);
  }
}

TEST(LatentAppend, RefusesHugeRows) {
  abi::LatentAppendParams p;
  p.latent = 4097, p.rotary = 2;
  auto kernel = createHostKernel(p, kBatch.dims(8));
  ASSERT_FALSE(kernel.isOk());
  EXPECT_EQ(kernel.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(kernel.status().toString().find("4097"), std::string::npos);
}

//===------------------------------------------------------------------------===//
// absorbed_attention
//===------------------------------------------------------------------------===//

abi::AbsorbedAttentionParams absorbed(int64_t heads, int64_t latent, int64_t rotary,
                                      int64_t valueDim) {
  abi::AbsorbedAttentionParams p;
  p.heads = heads, p.latent = latent, p.rotary = rotary, p.valueDim = valueDim;
  p.format = "f32";
  p.scale = 1 / std::sqrt(double(latent + rotary));
  return p;
}

/// Fills q and the cache positions that the batch's sequences have; the rest of the cache stays
/// NaN, so that a read outside a sequence shows.
void fillInputs(Launch &launch, const abi::AbsorbedAttentionParams &p, const Batch &batch,
                Random &random) {
  const int64_t width = p.latent + p.rotary;
  fillNormal(random, launch.arg("q"), batch.tokens() * p.heads * width);
  std::normal_distribution<float> normal;
  for (size_t s = 0; s < batch.sequences.size(); ++s)
    for (int64_t position = 0; position < batch.sequences[s].cached + batch.sequences[s].fresh;
         ++position)
      for (int64_t i = 0; i < width; ++i)
        writeElement(p.cacheType, launch.arg<void>("cache"),
                     cacheIndex(launch, int64_t(s), position, 1, 0, width, i), normal(random));
}

/// Values expanded for every head before they are summed, unlike what the kernel does.
Doubles naiveAttention(Launch &launch, const abi::AbsorbedAttentionParams &p,
                       const std::vector<testing::Floats> &weights, int64_t tokens) {
  const int64_t width = p.latent + p.rotary;
  Doubles out;
  for (int64_t token = 0; token < tokens; ++token) {
    const TokenPlace place = placeOf(launch, token);
    testing::Floats rows;
    for (int64_t key = 0; key <= place.position; ++key)
      for (int64_t i = 0; i < width; ++i)
        rows.push_back(readElement(p.cacheType, launch.arg<void>("cache"),
                                   cacheIndex(launch, place.seq, key, 1, 0, width, i)));
    for (int64_t head = 0; head < p.heads; ++head) {
      const float *q = launch.arg("q") + (token * p.heads + head) * width;
      Doubles scores, result(size_t(p.valueDim), 0.0);
      double greatest = -1e300, sum = 0;
      for (int64_t key = 0; key <= place.position; ++key) {
        scores.push_back(p.scale * testing::dot(q, rows, key, width));
        greatest = std::max(greatest, scores.back());
      }
      for (int64_t key = 0; key <= place.position; ++key) {
        const double weight = std::exp(scores[size_t(key)] - greatest);
        sum += weight;
        for (int64_t i = 0; i < p.valueDim; ++i)
          result[size_t(i)] +=
              weight * testing::dot(rows.data() + key * width, weights[size_t(head)], i, p.latent);
      }
      for (double value : result)
        out.push_back(value / sum);
    }
  }
  return out;
}

void checkAttention(const abi::AbsorbedAttentionParams &p, const Batch &batch, int64_t pageSize,
                    uint32_t seed) {
  Random random(seed);
  Launch launch(p, batch.dims(pageSize));
  batch.describe(launch, random, true);
  fillInputs(launch, p, batch, random);
  auto weights = packHeads(launch, p.format, p.heads, p.valueDim, p.latent, seed);
  Doubles expected = naiveAttention(launch, p, weights, batch.tokens());
  runEverywhere(launch, {"out"},
                [&] { EXPECT_LT(relativeError(launch.arg("out"), expected), 5e-6); });
}

TEST(AbsorbedAttention, ShapesAndPages) {
  checkAttention(absorbed(4, 32, 8, 16), kMixed, 16, 40);
  checkAttention(absorbed(11, 20, 6, 9), kMixed, 5, 41);
  checkAttention(absorbed(1, 3, 0, 1), kMixed, 1, 42);
  checkAttention(absorbed(16, 512, 64, 128), Batch{{{20, 1}, {0, 9}, {15, 2}}}, 16, 43);
}

TEST(AbsorbedAttention, FormatsAndCaches) {
  for (const char *cache : {"f32", "bf16", "f16"})
    for (const char *format : {"bf16", "f16", "f8e4m3:group16", "i4:group32"}) {
      SCOPED_TRACE(format + std::string(" from ") + cache);
      abi::AbsorbedAttentionParams p = absorbed(10, 32, 10, 12);
      p.cacheType = cache, p.format = format;
      checkAttention(p, kBatch, 8, 50);
    }
}

// Contexts beyond kAttentionSplitKeys go through partial results.
TEST(AbsorbedAttention, LongContexts) {
  const int64_t split = abi::kAttentionSplitKeys;
  const Batch batch{{{split - 1, 1}, {split, 1}, {2 * split + 17, 1}, {split + 5, 3}, {2, 1}}};
  checkAttention(absorbed(10, 16, 4, 8), batch, 16, 60);
}

TEST(AbsorbedAttention, RefusesHugeRows) {
  auto kernel = createHostKernel(absorbed(1, 1000, 25, 8), kBatch.dims(8));
  ASSERT_FALSE(kernel.isOk());
  EXPECT_EQ(kernel.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(kernel.status().toString().find("1024"), std::string::npos);
}

/// The outputs of one sequence of `length` tokens, computed in the given chunks, each in a step
/// together with `others`.
std::vector<float> runInChunks(const abi::AbsorbedAttentionParams &p,
                               const std::vector<int64_t> &chunks,
                               const std::vector<Batch::Sequence> &others) {
  int64_t length = 0;
  for (int64_t chunk : chunks)
    length += chunk;
  const int64_t width = p.latent + p.rotary;
  Random values(80);
  std::vector<float> q(size_t(length * p.heads * width)), rows(size_t(length * width));
  fillNormal(values, q.data(), int64_t(q.size()));
  fillNormal(values, rows.data(), int64_t(rows.size()));

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
    packHeads(launch, p.format, p.heads, p.valueDim, p.latent, 82);
    for (int64_t position = 0; position < done + chunk; ++position)
      for (int64_t i = 0; i < width; ++i)
        launch.arg("cache")[cacheIndex(launch, seq, position, 1, 0, width, i)] =
            rows[size_t(position * width + i)];
    const int64_t row = p.heads * width, outRow = p.heads * p.valueDim;
    std::copy_n(q.data() + done * row, chunk * row, launch.arg("q") + firstToken * row);
    launch.run(2);
    const float *result = launch.arg("out") + firstToken * outRow;
    out.insert(out.end(), result, result + chunk * outRow);
    done += chunk;
  }
  return out;
}

TEST(AbsorbedAttention, AnswersDoNotDependOnTheBatch) {
  abi::AbsorbedAttentionParams p = absorbed(12, 24, 8, 10);
  for (HostIsa isa : usableIsas()) {
    ScopedIsa scope(isa);
    std::vector<float> alone = runInChunks(p, {90}, {});
    Doubles expected(alone.begin(), alone.end());
    for (const auto &chunks :
         std::vector<std::vector<int64_t>>{{90}, {31, 59}, {1, 1, 16, 70, 1, 1}, {89, 1}}) {
      std::vector<float> mixed = runInChunks(p, chunks, {{3, 1}, {0, 20}, {700, 1}});
      EXPECT_LT(relativeError(mixed.data(), expected), 2e-6);
    }
    // With the same chunks, the others in the batch must not change a bit.
    EXPECT_EQ(runInChunks(p, {89, 1}, {}), runInChunks(p, {89, 1}, {{5, 8}, {9, 1}}));
  }
}

// The three launches together are what models define: keys [W c | shared rotary part] and values
// V c for every head, W and V being the halves of kv_b.
TEST(AbsorbedAttention, EqualsExpandedKeysAndValues) {
  const int64_t heads = 5, latent = 24, nope = 12, rotary = 8, valueDim = 10;
  const Batch batch{{{0, 13}}};
  const int64_t tokens = batch.tokens(), width = latent + rotary;
  Random random(90);

  abi::LatentQueryParams query = queries(heads, latent, nope, rotary);
  Launch queryLaunch(query, batch.dims(4));
  batch.describe(queryLaunch, random, false);
  fillNormal(random, queryLaunch.arg("x"), tokens * heads * (nope + rotary));
  fillFrequencies(queryLaunch, random);
  auto keyWeights = packHeads(queryLaunch, "f32", heads, latent, nope, 91);
  queryLaunch.run(1);

  abi::LatentAppendParams append;
  append.latent = latent, append.rotary = rotary, append.rope = query.rope;
  append.rope.offset = 0;
  Launch appendLaunch(append, batch.dims(4));
  batch.describe(appendLaunch, random, false);
  fillNormal(random, appendLaunch.arg("x"), tokens * width);
  std::fill_n(appendLaunch.arg("norm"), latent, 1.0f);
  std::copy_n(queryLaunch.arg("rope"), rotary / 2, appendLaunch.arg("rope"));
  appendLaunch.run(1);

  abi::AbsorbedAttentionParams attention = absorbed(heads, latent, rotary, valueDim);
  Launch launch(attention, batch.dims(4));
  batch.describe(launch, random, true);
  launch.restore("page_table", appendLaunch.snapshot("page_table"));
  launch.restore("cache", appendLaunch.snapshot("cache"));
  launch.restore("q", queryLaunch.snapshot("out"));
  auto valueWeights = packHeads(launch, "f32", heads, valueDim, latent, 92);

  Doubles expected;
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t head = 0; head < heads; ++head) {
      const float *x = queryLaunch.arg("x") + (token * heads + head) * (nope + rotary);
      Doubles q(x, x + nope + rotary);
      rotate(q.data() + nope, query.rope, 0, queryLaunch.arg("rope"), token, tokens);
      Doubles weights, result(size_t(valueDim), 0.0);
      double sum = 0;
      for (int64_t key = 0; key <= token; ++key) {
        const float *row =
            appendLaunch.arg("cache") + cacheIndex(appendLaunch, 0, key, 1, 0, width, 0);
        double score = 0;
        for (int64_t i = 0; i < nope; ++i) {
          double expanded = 0;
          for (int64_t j = 0; j < latent; ++j)
            expanded += double(keyWeights[size_t(head)][size_t(j * nope + i)]) * row[j];
          score += q[size_t(i)] * expanded;
        }
        for (int64_t i = 0; i < rotary; ++i)
          score += q[size_t(nope + i)] * row[latent + i];
        weights.push_back(std::exp(score * attention.scale));
        sum += weights.back();
        for (int64_t i = 0; i < valueDim; ++i)
          result[size_t(i)] +=
              weights.back() * testing::dot(row, valueWeights[size_t(head)], i, latent);
      }
      for (double value : result)
        expected.push_back(value / sum);
    }
  launch.run(1);
  EXPECT_LT(relativeError(launch.arg("out"), expected), 5e-6);
}

} // namespace
} // namespace sluice::host::test
