//===- SyntheticWeights.h - Weights made up from their names ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Speed and memory of a model do not depend on its numbers, so a configuration alone is enough to
// plan and measure it. The numbers still have to be sane: activations must neither vanish nor
// overflow over sixty layers. They depend on nothing but the tensor's name and the element's place,
// so that the same artifact comes out on every machine, whatever order it is written in. Codes of
// quantised weights are plain random bits; their scales are constants that importers choose.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_SYNTHETICWEIGHTS_H
#define SLUICE_COMPILER_ARTIFACT_SYNTHETICWEIGHTS_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sluice {

/// One made-up tensor. Matrices are uniform with variance 1 / columns, which keeps the size of what
/// they are multiplied with; norm weights lie around 1, other vectors around 0.
class SyntheticTensor {
public:
  /// `shape` is that of the checkpoint tensor `key`.
  SyntheticTensor(std::string_view key, std::span<const int64_t> shape);

  /// Elements [begin, begin + out.size()) in row-major order.
  void generate(int64_t begin, std::span<float> out) const;

  /// Bytes [begin, begin + out.size()) of quantised codes in words of whole bytes: any byte is as
  /// likely as any other. With `finite`, as F8_E4M3 of a magnitude below 2, which are all finite.
  void generateCodes(int64_t begin, bool finite, std::span<std::byte> out) const;

private:
  uint64_t hash(int64_t place) const;

  uint64_t seed;
  float center, halfRange;
};

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_SYNTHETICWEIGHTS_H
