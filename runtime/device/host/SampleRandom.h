//===- SampleRandom.h - Counter-based random numbers ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Philox 4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw: "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): a keyed bijection of counters. Sampling needs one number per (seed, position)
// and no state between steps, so that a request draws the same numbers in any batch.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_SAMPLERANDOM_H
#define SLUICE_RUNTIME_DEVICE_HOST_SAMPLERANDOM_H

#include <array>
#include <cstdint>

namespace sluice::host {

inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * counter[0];
    const uint64_t b = uint64_t(0xCD9E8D57u) * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b),
               uint32_t(a >> 32) ^ counter[3] ^ key[1], uint32_t(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

/// A multiple of 2^-53 in [0, 1), a function of seed and counter alone.
inline double uniformOf(uint64_t seed, uint64_t counter) {
  const auto bits = philox4x32({uint32_t(counter), uint32_t(counter >> 32), 0, 0},
                               {uint32_t(seed), uint32_t(seed >> 32)});
  return double(((uint64_t(bits[1]) << 32) | bits[0]) >> 11) * 0x1p-53;
}

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_SAMPLERANDOM_H
