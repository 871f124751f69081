//===- NarrowFloat.h - Conversions between float and the narrow formats --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Scalar conversions that are exact by construction: integer arithmetic on the bit patterns, no
// dependence on compiler flags or the rounding mode, usable in constant expressions. They are the
// definition that SIMD kernels are tested against. All narrowing rounds to nearest, ties to even.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_NARROWFLOAT_H
#define SLUICE_RUNTIME_BASE_NARROWFLOAT_H

#include <bit>
#include <cstdint>
#include <limits>

namespace sluice {

/// The float with the bits of `value` above its zero low half: exact.
constexpr float bf16ToF32(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

/// Overflow becomes infinity; a NaN stays a (quiet) NaN.
constexpr uint16_t f32ToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

namespace detail {

/// 2^exponent for exponents of normal floats.
constexpr float exp2Normal(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

/// The magnitude code (without sign) nearest to |value| in a format with `mantissaBits` and
/// smallest normal exponent `minExponent`. The code is not bounded: the caller handles overflow.
/// `value` must not be infinite or NaN.
constexpr uint32_t encodeMagnitude(float value, int mantissaBits, int minExponent) {
  uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
  int field = static_cast<int>(bits >> 23);
  uint32_t significand = field == 0 ? bits : ((bits & 0x7fffffu) | 0x800000u);
  int exponent = field == 0 ? -126 : field - 127;
  int target = exponent < minExponent ? minExponent : exponent;
  int shift = 23 - mantissaBits + (target - exponent);
  if (shift > 24)
    return 0; // below half of the smallest subnormal
  uint32_t kept = significand >> shift;
  uint32_t rest = significand & ((1u << shift) - 1), half = 1u << (shift - 1);
  if (rest > half || (rest == half && (kept & 1u)))
    ++kept;
  // `kept` includes the leading one of a normal number, which is the field's first unit; a carry
  // out of the mantissa moves into the exponent by itself.
  return (static_cast<uint32_t>(target - minExponent) << mantissaBits) + kept;
}

/// The inverse, for finite codes.
constexpr float decodeMagnitude(uint32_t code, int mantissaBits, int minExponent) {
  uint32_t field = code >> mantissaBits;
  uint32_t mantissa = code & ((1u << mantissaBits) - 1);
  if (field == 0)
    return static_cast<float>(mantissa) * exp2Normal(minExponent - mantissaBits);
  return static_cast<float>(mantissa | (1u << mantissaBits)) *
         exp2Normal(minExponent + static_cast<int>(field) - 1 - mantissaBits);
}

constexpr bool isNan(float value) {
  return (std::bit_cast<uint32_t>(value) & 0x7fffffffu) > 0x7f800000u;
}
constexpr bool isInfinite(float value) {
  return (std::bit_cast<uint32_t>(value) & 0x7fffffffu) == 0x7f800000u;
}
constexpr uint32_t signBit(float value) { return std::bit_cast<uint32_t>(value) >> 31; }

} // namespace detail

/// IEEE binary16: exact.
constexpr float f16ToF32(uint16_t value) {
  uint32_t magnitude = value & 0x7fffu;
  float result;
  if (magnitude >= 0x7c00u)
    result = std::bit_cast<float>(0x7f800000u | ((magnitude & 0x3ffu) << 13));
  else
    result = detail::decodeMagnitude(magnitude, 10, -14);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(result) |
                              (static_cast<uint32_t>(value & 0x8000u) << 16));
}

/// Overflow becomes infinity; a NaN stays a (quiet) NaN.
constexpr uint16_t f32ToF16(float value) {
  uint32_t sign = detail::signBit(value) << 15;
  if (detail::isNan(value))
    return static_cast<uint16_t>(sign | 0x7e00u |
                                 ((std::bit_cast<uint32_t>(value) >> 13) & 0x1ffu));
  uint32_t code = 0x7c00u;
  if (!detail::isInfinite(value))
    code = detail::encodeMagnitude(value, 10, -14);
  return static_cast<uint16_t>(sign | (code < 0x7c00u ? code : 0x7c00u));
}

/// OCP FP8 E4M3 (finite and NaN only): exact.
constexpr float f8E4M3ToF32(uint8_t value) {
  uint32_t magnitude = value & 0x7fu;
  float result = magnitude == 0x7fu ? std::numeric_limits<float>::quiet_NaN()
                                    : detail::decodeMagnitude(magnitude, 3, -6);
  return value & 0x80u ? -result : result;
}

/// Saturates to ±448, infinities included, as the processors' satfinite conversions do.
constexpr uint8_t f32ToF8E4M3(float value) {
  uint32_t sign = detail::signBit(value) << 7;
  if (detail::isNan(value))
    return static_cast<uint8_t>(sign | 0x7fu);
  uint32_t code = detail::isInfinite(value) ? 0x7eu : detail::encodeMagnitude(value, 3, -6);
  return static_cast<uint8_t>(sign | (code < 0x7eu ? code : 0x7eu));
}

/// OCP FP8 E5M2 (IEEE-like, with infinities): exact.
constexpr float f8E5M2ToF32(uint8_t value) { return f16ToF32(static_cast<uint16_t>(value << 8)); }

/// Saturates to ±57344, infinities included, as the processors' satfinite conversions do.
constexpr uint8_t f32ToF8E5M2(float value) {
  uint32_t sign = detail::signBit(value) << 7;
  if (detail::isNan(value))
    return static_cast<uint8_t>(sign | 0x7fu);
  uint32_t code = detail::isInfinite(value) ? 0x7bu : detail::encodeMagnitude(value, 2, -14);
  return static_cast<uint8_t>(sign | (code < 0x7bu ? code : 0x7bu));
}

/// OCP MX scale E8M0: 2^(value - 127), 255 is NaN. Exact (2^-127 is a float subnormal).
constexpr float f8E8M0ToF32(uint8_t value) {
  if (value == 0xffu)
    return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(value == 0 ? 0x00400000u : static_cast<uint32_t>(value) << 23);
}

/// How a positive float that is no power of two becomes a scale: kDown is floor(log2), the OCP MX
/// rule for shared exponents; kUp keeps quotients by the scale from growing.
enum class ScaleRounding { kDown, kUp };

/// Clamps to [2^-127, 2^127]; negative numbers and NaN become NaN (255).
constexpr uint8_t f32ToF8E8M0(float value, ScaleRounding rounding) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (detail::isNan(value) || (bits >> 31 && bits != 0x80000000u))
    return 0xff;
  bits &= 0x7fffffffu;
  uint32_t field = bits >> 23, rest = bits & 0x7fffffu;
  // Code 0 is 2^-127, half of the smallest normal float: subnormals above it round up to code 1.
  uint32_t boundary = field == 0 ? 0x400000u : 0u;
  if (rounding == ScaleRounding::kUp && rest > boundary)
    ++field;
  return static_cast<uint8_t>(field < 0xfeu ? field : 0xfeu);
}

} // namespace sluice

#endif // SLUICE_RUNTIME_BASE_NARROWFLOAT_H
