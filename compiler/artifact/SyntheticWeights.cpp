//===- SyntheticWeights.cpp - Weights made up from their names --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The generator is SplitMix64 used by position (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, OOPSLA 2014), the seed FNV-1a of the name.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/SyntheticWeights.h"

#include <cmath>

namespace sluice {

SyntheticTensor::SyntheticTensor(std::string_view key, std::span<const int64_t> shape)
    : seed(0xcbf29ce484222325u), center(0), halfRange(0.1f) {
  for (unsigned char c : key)
    seed = (seed ^ c) * 0x100000001b3u;
  if (key.find("norm") != std::string_view::npos)
    center = 1;
  else if (shape.size() > 1)
    halfRange = std::sqrt(3.0f / float(shape.back()));
}

uint64_t SyntheticTensor::hash(int64_t place) const {
  uint64_t z = seed + (uint64_t(place) + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void SyntheticTensor::generate(int64_t begin, std::span<float> out) const {
  for (size_t i = 0; i < out.size(); ++i) {
    uint64_t z = hash(begin + int64_t(i));
    float unit = float(int32_t(z >> 40)) * 0x1p-23f - 1.0f; // 24 bits: exact, in [-1, 1)
    out[i] = center + halfRange * unit;
  }
}

void SyntheticTensor::generateCodes(int64_t begin, bool finite, std::span<std::byte> out) const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t place = begin + int64_t(i);
    if (i == 0 || place % 8 == 0)
      bytes = hash(place / 8);
    auto code = std::byte(bytes >> (place % 8 * 8));
    out[i] = finite ? code & std::byte(0xbf) : code; // without the highest bit of the exponent
  }
}

} // namespace sluice
