//===- Float16.h - Conversions of 16-bit floating point ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// bfloat16 and IEEE binary16 as they stand in checkpoints and packed weights: plain uint16_t bits.
// Scalar conversions only; they define the meaning that the SIMD kernels must reproduce. Widening
// is exact; narrowing rounds to nearest, ties to even, keeps NaN a (quiet) NaN and overflows to
// infinity.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_QUANT_FLOAT16_H
#define SLUICE_RUNTIME_QUANT_FLOAT16_H

#include <bit>
#include <cstdint>

namespace sluice::quant {

inline float bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

inline uint16_t floatToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return uint16_t((bits >> 16) | 0x40u);
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float f16ToFloat(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000u) << 16;
  uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) // infinity and NaN (made quiet, as the hardware conversion does)
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) |
                                (magnitude > 0x7c00u ? 0x400000u : 0u));
  if (magnitude >= 0x400u)
    return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  // Subnormal halves are multiples of 2^-24, exact in float32.
  float tiny = float(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(tiny));
}

inline uint16_t floatToF16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) // 65520, half-way past the largest half, rounds to infinity
    return uint16_t(sign | 0x7c00u);
  if (magnitude >= 0x38800000u) { // 2^-14, the smallest normal half
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
  }
  // Adding 0.5 aligns the units of the last place of the sum with those of subnormal halves, so the
  // float32 addition itself does the rounding.
  float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  return uint16_t(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u));
}

} // namespace sluice::quant

#endif // SLUICE_RUNTIME_QUANT_FLOAT16_H
