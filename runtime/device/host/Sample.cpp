//===- Sample.cpp - From logits to a token ----------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Temperature, then top-k, then top-p over what remains, as the common samplers do. Tokens are
// ordered by (logit, lower id first), a total order, so that a truncation is one threshold: the
// last token kept. The k-th best comes from a bounded heap; the nucleus from bisection with
// nth_element after tokens too unlikely to matter have been dropped, both linear in the vocabulary
// in practice and without allocation. Drawing then walks the vocabulary by id over the weights of
// the tokens kept. NaN logits are never chosen while there is another token.
//
//===------------------------------------------------------------------------===//
#include "runtime/device/host/Isa.h"

#include "runtime/artifact/StepAbi.h"
#include "runtime/device/host/Kernels.h"
#include "runtime/device/host/SampleRandom.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/device/host/Sample.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#include "runtime/device/host/NormExp-inl.h"
#include "runtime/device/host/NormRow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::host {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The greatest value that is not NaN; -infinity when there is none.
float greatestOf(const float *x, int64_t n) {
  const FloatTag d;
  FloatVec best[4];
  for (FloatVec &b : best)
    b = hn::Set(d, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 4 * kFloatLanes <= n; i += 4 * kFloatLanes) {
    for (int j = 0; j < 4; ++j) {
      const FloatVec v = hn::LoadU(d, x + i + j * kFloatLanes);
      best[j] = hn::IfThenElse(hn::Gt(v, best[j]), v, best[j]);
    }
  }
  // Not MaxOfLanes: its emulation never returns -infinity.
  HWY_ALIGN float lanes[kFloatLanes];
  hn::Store(hn::Max(hn::Max(best[0], best[1]), hn::Max(best[2], best[3])), d, lanes);
  float greatest = *std::max_element(lanes, lanes + kFloatLanes);
  for (; i < n; ++i)
    greatest = x[i] > greatest ? x[i] : greatest;
  return greatest;
}

/// weights[i] = exp((x[i] - greatest) / temperature); 0 for NaN.
void weigh(const float *x, int64_t n, float greatest, float temperature, float *weights) {
  const FloatTag d;
  const FloatVec top = hn::Set(d, greatest), divisor = hn::Set(d, temperature);
  const FloatVec one = hn::Set(d, 1.0f);
  auto weight = [&](FloatVec v) HWY_ATTR {
    // Infinities equal to the greatest would give NaN below.
    return hn::IfThenElse(hn::Eq(v, top), one, expOf(hn::Div(hn::Sub(v, top), divisor)));
  };
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes)
    hn::StoreU(weight(hn::LoadU(d, x + i)), d, weights + i);
  if (i < n) {
    HWY_ALIGN float last[kFloatLanes] = {};
    std::copy(x + i, x + n, last);
    hn::Store(weight(hn::Load(d, last)), d, last);
    std::copy_n(last, n - i, weights + i);
  }
}

float sumOf(const float *x, int64_t n) { return sumOfPowers<1>(x, n, 0.0f); }

} // namespace HWY_NAMESPACE
} // namespace sluice::host
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::host {
namespace {

/// Weights are summed in float32 within such blocks and in double across them.
constexpr int64_t kSumBlock = 256;

class SampleKernel final : public HostKernel {
public:
  SampleKernel(const abi::SampleParams &params, const abi::StepDims &dims)
      : greatestOf(SLUICE_HOST_CHOOSE(greatestOf)), weigh(SLUICE_HOST_CHOOSE(weigh)),
        sumOf(SLUICE_HOST_CHOOSE(sumOf)), vocab(params.vocab), maxRows(dims.logitRows) {}

  void run(void *const *args, ThreadPool &pool) const override {
    const auto &header = *static_cast<const abi::StepHeader *>(args[0]);
    const auto *logits = static_cast<const float *>(args[1]);
    const auto *rowsToSample = static_cast<const abi::SamplingRow *>(args[2]);
    auto *sampled = static_cast<int32_t *>(args[3]);
    auto *scratch = static_cast<float *>(args[4]);
    const int64_t rows = std::min<int64_t>(header.numLogitRows, maxRows);
    pool.parallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        float *weights = scratch + 2 * row * vocab;
        sampled[row] = sample(logits + row * vocab, rowsToSample[row], weights,
                              reinterpret_cast<int32_t *>(weights + vocab));
      }
    });
  }

private:
  /// The order of tokens: true when `a` comes before `b`.
  struct Better {
    const float *logits;
    float key(int32_t id) const {
      return std::isnan(logits[id]) ? -std::numeric_limits<float>::infinity() : logits[id];
    }
    bool operator()(int32_t a, int32_t b) const {
      const float x = key(a), y = key(b);
      return x != y ? x > y : a < b;
    }
  };

  double total(const float *weights) const {
    double sum = 0;
    for (int64_t i = 0; i < vocab; i += kSumBlock)
      sum += sumOf(weights + i, std::min(kSumBlock, vocab - i));
    return sum;
  }

  int32_t sample(const float *logits, const abi::SamplingRow &row, float *weights,
                 int32_t *candidates) const {
    const float greatest = greatestOf(logits, vocab);
    if (!(row.temperature > 0)) {
      const float *first = std::find(logits, logits + vocab, greatest);
      return first == logits + vocab ? 0 : int32_t(first - logits);
    }
    weigh(logits, vocab, greatest, row.temperature, weights);
    const Better better{logits};
    const bool byRank = row.topK > 0 && row.topK < vocab, byMass = row.topP < 1;
    if (byRank || byMass) {
      int32_t last;
      if (byRank) {
        last = kthBest(better, row.topK, candidates);
        if (byMass) {
          double mass = 0;
          for (int64_t i = 0; i < row.topK; ++i)
            mass += weights[candidates[i]];
          last = lastOfNucleus(better, weights, candidates, row.topK, double(row.topP) * mass);
        }
      } else {
        const double mass = total(weights);
        // Tokens below this weigh less than 1 - topP together: the nucleus has none of them.
        const float negligible =
            float(0.999 * (1 - std::max(double(row.topP), 0.0)) * mass / double(vocab));
        int64_t count = 0;
        for (int64_t id = 0; id < vocab; ++id) {
          candidates[count] = int32_t(id);
          count += weights[id] >= negligible;
        }
        last = lastOfNucleus(better, weights, candidates, count, double(row.topP) * mass);
      }
      const float threshold = better.key(last);
      for (int64_t id = 0; id < vocab; ++id) {
        const bool kept = logits[id] > threshold || (logits[id] == threshold && id <= last);
        weights[id] = kept ? weights[id] : 0.0f;
      }
    }
    return draw(weights, uniformOf(row.seed, row.counter));
  }

  /// Fills candidates[0, k) with the k best tokens and returns the last of them.
  int32_t kthBest(const Better &better, int64_t k, int32_t *candidates) const {
    for (int64_t i = 0; i < k; ++i)
      candidates[i] = int32_t(i);
    std::make_heap(candidates, candidates + k, better); // the front is the worst
    // Later ids lose against equals, so most tokens cost one comparison.
    float worst = better.key(candidates[0]);
    for (int32_t id = int32_t(k); id < vocab; ++id) {
      if (!(better.logits[id] > worst))
        continue;
      std::pop_heap(candidates, candidates + k, better);
      candidates[k - 1] = id;
      std::push_heap(candidates, candidates + k, better);
      worst = better.key(candidates[0]);
    }
    return candidates[0];
  }

  /// The last token of the smallest set of best candidates whose weights reach `mass`; at least
  /// the best one is kept.
  static int32_t lastOfNucleus(const Better &better, const float *weights, int32_t *candidates,
                               int64_t count, double mass) {
    int64_t low = 0, high = count;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      std::nth_element(candidates + low, candidates + middle, candidates + high, better);
      double upper = 0;
      for (int64_t i = low; i < middle; ++i)
        upper += weights[candidates[i]];
      if (upper >= mass) {
        high = middle;
      } else {
        mass -= upper;
        low = middle;
      }
    }
    return candidates[low];
  }

  /// The token at which the running sum of weights passes `uniform` of their total.
  int32_t draw(const float *weights, double uniform) const {
    double rest = uniform * total(weights);
    int32_t chosen = 0;
    for (int64_t block = 0; block < vocab; block += kSumBlock) {
      const int64_t end = std::min(block + kSumBlock, vocab);
      const double sum = sumOf(weights + block, end - block);
      if (sum <= rest) {
        rest -= sum;
        continue;
      }
      // The sum of the block may have been rounded up: its last token then stands for the excess.
      for (int64_t id = block; id < end; ++id) {
        if (weights[id] > 0)
          chosen = int32_t(id);
        rest -= weights[id];
        if (rest < 0)
          break;
      }
      break;
    }
    return chosen;
  }

  float (*greatestOf)(const float *x, int64_t n);
  void (*weigh)(const float *x, int64_t n, float greatest, float temperature, float *weights);
  float (*sumOf)(const float *x, int64_t n);
  int64_t vocab, maxRows;
};

} // namespace

KernelResult createSample(const abi::SampleParams &params, const abi::StepDims &dims) {
  if (params.vocab > INT32_MAX)
    return unsupported("a vocabulary of " + std::to_string(params.vocab) +
                       " exceeds the host's limit 2147483647");
  return std::make_unique<SampleKernel>(params, dims);
}

} // namespace sluice::host
#endif // HWY_ONCE
