//===- QkvTest.cpp - The qkv launch against a naive reference ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "test/runtime/device/KernelHarness.h"

namespace sluice::host::test {
namespace {

const Batch kBatch{{{0, 5}, {9, 1}, {30, 3}, {70, 1}}};

struct Expected {
  std::vector<double> q, k, v; ///< [tokens, heads, dim]
};

void rmsNorm(double *x, int64_t n, double eps, const float *weight) {
  double square = 0;
  for (int64_t i = 0; i < n; ++i)
    square += x[i] * x[i] / double(n);
  for (int64_t i = 0; i < n; ++i)
    x[i] *= (weight ? weight[i] : 1.0) / std::sqrt(square + eps);
}

Expected naiveQkv(Launch &launch, const abi::QkvParams &p, const std::vector<float> &weight,
                  int64_t tokens) {
  const int64_t d = p.headDim, qSize = p.qHeads * d, kSize = p.kvHeads * d;
  const int64_t rows = qSize + kSize + p.kvHeads * p.valueDim;
  Expected out;
  for (int64_t token = 0; token < tokens; ++token) {
    const int64_t position = launch.arg<int32_t>("positions")[token];
    const int64_t length =
        launch.arg<int32_t>("kv_lengths")[launch.arg<int32_t>("token_seq")[token]];
    std::vector<double> y(size_t(rows), 0.0);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < p.k; ++i)
        y[size_t(row)] += double(launch.arg("x")[token * p.k + i]) * weight[size_t(row * p.k + i)];
      if (p.bias)
        y[size_t(row)] += launch.arg("bias")[row];
    }
    double *q = y.data(), *k = q + qSize, *v = k + kSize;
    if (p.qkNorm == abi::QkNorm::kWhole) {
      rmsNorm(q, qSize, p.eps, launch.arg("q_norm"));
      rmsNorm(k, kSize, p.eps, launch.arg("k_norm"));
    }
    for (int64_t head = 0; p.qkNorm == abi::QkNorm::kPerHead && head < p.qHeads + p.kvHeads; ++head)
      rmsNorm(q + head * d, d, p.eps, launch.arg(head < p.qHeads ? "q_norm" : "k_norm"));
    for (double &value : y)
      if (p.clip > 0)
        value = std::min(std::max(value, -p.clip), p.clip);
    const int64_t half = p.rope.dim / 2;
    const float *frequencies = p.rope.dim ? launch.arg("rope") : nullptr;
    if (p.rope.tables == 2 && length > p.rope.switchLength)
      frequencies += half;
    for (int64_t head = 0; head < p.qHeads + p.kvHeads; ++head) {
      double *x = q + head * d + p.rope.offset;
      for (int64_t i = 0; i < half; ++i) {
        double &a = p.rope.interleaved ? x[2 * i] : x[i];
        double &b = p.rope.interleaved ? x[2 * i + 1] : x[i + half];
        const double angle = float(position) * frequencies[i]; // rounded to float32
        const double c = p.rope.magnitude * std::cos(angle), s = p.rope.magnitude * std::sin(angle);
        const double first = a * c - b * s;
        b = b * c + a * s;
        a = first;
      }
      if (p.qkNorm == abi::QkNorm::kL2AfterRope)
        rmsNorm(q + head * d, d, p.eps, nullptr);
    }
    for (int64_t i = 0; p.tempFloor > 0 && i < qSize; ++i)
      q[i] *= 1 + p.tempScale * std::log(1 + std::floor(double(position + 1) / p.tempFloor));
    out.q.insert(out.q.end(), q, k);
    out.k.insert(out.k.end(), k, v);
    out.v.insert(out.v.end(), v, y.data() + rows);
  }
  return out;
}

/// The cache entries of the batch's tokens, [tokens, heads, dim].
std::vector<float> cachedRows(Launch &launch, const char *name, const std::string &type,
                              int64_t heads, int64_t dim, int64_t tokens) {
  std::vector<float> out;
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t i = 0; i < dim; ++i)
        out.push_back(
            readElement(type, launch.arg<void>(name),
                        cacheIndex(launch, launch.arg<int32_t>("token_seq")[token],
                                   launch.arg<int32_t>("positions")[token], heads, head, dim, i)));
  return out;
}

void checkQkv(const abi::QkvParams &p, uint32_t seed, const Batch &batch = kBatch) {
  Random random(seed);
  abi::StepDims dims = batch.dims(8);
  dims.numPages = std::min<int64_t>(dims.numPages, 64);
  Launch launch(p, dims);
  batch.describe(launch, random, false);
  const int64_t tokens = batch.tokens();
  const int64_t rows = p.qHeads * p.headDim + p.kvHeads * (p.headDim + p.valueDim);
  fillNormal(random, launch.arg("x"), tokens * p.k);
  std::vector<float> weight(size_t(rows * p.k));
  fillNormal(random, weight.data(), int64_t(weight.size()), 1 / std::sqrt(float(p.k)));
  launch.pack("weight", p.format, rows, p.k, weight);
  for (const char *name : {"bias", "q_norm", "k_norm"})
    fillNormal(random, launch.arg(name), launch.bytes(name) / 4);
  for (int64_t i = 0; i < launch.bytes("rope") / 4; ++i)
    launch.arg("rope")[i] = std::uniform_real_distribution<float>(0, 1)(random);
  // Kernels must not touch the cache outside the step's slots.
  std::memset(launch.arg<void>("k_cache"), 0x11, size_t(launch.bytes("k_cache")));
  std::memset(launch.arg<void>("v_cache"), 0x11, size_t(launch.bytes("v_cache")));

  Expected expected = naiveQkv(launch, p, weight, tokens);
  const double cacheError = p.cacheType == "f32" ? 5e-6 : p.cacheType == "f16" ? 5e-4 : 4e-3;
  runEverywhere(launch, {"q", "k_cache", "v_cache"}, [&] {
    EXPECT_LT(relativeError(launch.arg("q"), expected.q), 5e-6);
    auto k = cachedRows(launch, "k_cache", p.cacheType, p.kvHeads, p.headDim, tokens);
    auto v = cachedRows(launch, "v_cache", p.cacheType, p.kvHeads, p.valueDim, tokens);
    EXPECT_LT(relativeError(k.data(), expected.k), cacheError);
    EXPECT_LT(relativeError(v.data(), expected.v), cacheError);
    int64_t touched = 0;
    const auto *bytes = launch.arg<unsigned char>("v_cache");
    for (int64_t i = 0; i < launch.bytes("v_cache"); ++i)
      touched += bytes[i] != 0x11;
    EXPECT_LE(touched, tokens * p.kvHeads * p.valueDim * bytesOf(p.cacheType));
  });
}

abi::QkvParams shape(int64_t k, int64_t qHeads, int64_t kvHeads, int64_t headDim,
                     int64_t valueDim = 0) {
  abi::QkvParams p;
  p.k = k, p.qHeads = qHeads, p.kvHeads = kvHeads, p.headDim = headDim;
  p.valueDim = valueDim ? valueDim : headDim;
  p.format = "f32";
  return p;
}

TEST(Qkv, Plain) {
  checkQkv(shape(64, 4, 2, 32), 1);
  checkQkv(shape(33, 3, 1, 5, 7), 2);
  checkQkv(shape(1, 1, 1, 1), 3);
}

TEST(Qkv, FormatsAndCaches) {
  for (const char *format :
       {"f32", "bf16", "f16", "f8e4m3:group16", "i8:channel", "i4:group32", "mxfp4", "nvfp4"})
    for (const char *cache : {"f32", "bf16", "f16"}) {
      SCOPED_TRACE(format + std::string(" into ") + cache);
      abi::QkvParams p = shape(40, 4, 2, 18, 11);
      p.format = format, p.cacheType = cache;
      p.rope.dim = 18;
      checkQkv(p, 10);
    }
}

TEST(Qkv, BiasAndClip) {
  abi::QkvParams p = shape(48, 4, 2, 24);
  p.bias = true;
  checkQkv(p, 20);
  p.clip = 0.7;
  checkQkv(p, 21);
  p.qkNorm = abi::QkNorm::kWhole;
  checkQkv(p, 22);
}

TEST(Qkv, Norms) {
  for (abi::QkNorm norm : {abi::QkNorm::kPerHead, abi::QkNorm::kWhole, abi::QkNorm::kL2AfterRope}) {
    SCOPED_TRACE(int(norm));
    abi::QkvParams p = shape(48, 6, 3, 20, 12);
    p.qkNorm = norm;
    p.rope.dim = 20;
    checkQkv(p, 30);
  }
}

TEST(Qkv, Rotations) {
  abi::QkvParams p = shape(32, 4, 2, 64);
  for (bool interleaved : {false, true})
    for (int64_t dim : {2, 6, 20, 32, 64})
      for (int64_t offset : {0, 64 - 64 / 2}) {
        if (dim + offset > 64)
          continue;
        SCOPED_TRACE(std::to_string(dim) + " at " + std::to_string(offset));
        p.rope.dim = dim, p.rope.offset = offset, p.rope.interleaved = interleaved;
        checkQkv(p, 40);
      }
  p.rope.magnitude = 1.3;
  checkQkv(p, 41);
  // The second table serves sequences longer than the switch: two of the batch's four.
  p.rope.tables = 2, p.rope.switchLength = 10;
  checkQkv(p, 42);
}

// Angles of a million radians must still be exact.
TEST(Qkv, LargePositions) {
  abi::QkvParams p = shape(16, 2, 1, 32);
  p.rope.dim = 32;
  checkQkv(p, 50, Batch{{{999990, 3}, {131071, 1}}});
}

TEST(Qkv, Temperature) {
  abi::QkvParams p = shape(16, 2, 1, 8);
  p.tempScale = 0.1, p.tempFloor = 10;
  checkQkv(p, 60);
}

// A token's result must not depend on the rows computed beside it.
TEST(Qkv, AnswersDoNotDependOnTheBatch) {
  abi::QkvParams p = shape(80, 4, 2, 16);
  p.rope.dim = 16, p.qkNorm = abi::QkNorm::kPerHead;
  std::vector<float> first;
  for (int64_t others : {0, 1, 7, 150}) {
    Batch batch{{{12, 1}, {0, others}}};
    Random random(70);
    Launch launch(p, batch.dims(8));
    batch.describe(launch, random, false);
    Random values(71);
    std::vector<float> weight(size_t(128 * p.k));
    fillNormal(values, weight.data(), int64_t(weight.size()));
    launch.pack("weight", "f32", 128, p.k, weight);
    fillNormal(values, launch.arg("rope"), 8);
    fillNormal(values, launch.arg("q_norm"), 16);
    fillNormal(values, launch.arg("k_norm"), 16);
    fillNormal(values, launch.arg("x"), batch.tokens() * p.k);
    launch.run(2);
    std::vector<float> q(launch.arg("q"), launch.arg("q") + 64);
    if (first.empty())
      first = q;
    EXPECT_EQ(first, q);
  }
}

} // namespace
} // namespace sluice::host::test
