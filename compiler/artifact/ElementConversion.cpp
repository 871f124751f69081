//===- ElementConversion.cpp - Elements from one type to another ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/ElementConversion.h"

#include "runtime/base/ElementTraits.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

namespace sluice {
namespace {

struct F64 {
  using Bits = double;
  static float widen(Bits value) { return static_cast<float>(value); }
};
using element::BF16;
using element::F16;
using element::F32;

/// The value of a byte in each of the types that take one.
template <typename Fn> std::array<float, 256> tableOf(const Fn &valueOf) {
  std::array<float, 256> table;
  for (unsigned byte = 0; byte < 256; ++byte)
    table[byte] = valueOf(byte);
  return table;
}

/// A sign, `exponentBits` and `mantissaBits` below it, in the low bits of a byte.
float smallFloat(unsigned byte, unsigned exponentBits, unsigned mantissaBits) {
  unsigned mantissa = byte & ((1u << mantissaBits) - 1);
  unsigned exponent = byte >> mantissaBits & ((1u << exponentBits) - 1);
  bool negative = byte >> (mantissaBits + exponentBits) & 1;
  int bias = (1 << (exponentBits - 1)) - 1;
  float fraction = float(exponent ? mantissa | 1u << mantissaBits : mantissa);
  float value = std::ldexp(fraction, int(std::max(exponent, 1u)) - bias - int(mantissaBits));
  return negative ? -value : value;
}

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

const std::array<float, 256> &byteValues(DataType type) {
  static const auto e4m3 =
      tableOf([](unsigned byte) { return (byte & 0x7f) == 0x7f ? kNaN : smallFloat(byte, 4, 3); });
  static const auto e8m0 =
      tableOf([](unsigned byte) { return byte == 255 ? kNaN : std::ldexp(1.0f, int(byte) - 127); });
  static const auto e2m1 = tableOf([](unsigned byte) { return smallFloat(byte & 15, 2, 1); });
  static const auto i8 = tableOf([](unsigned byte) { return float(int8_t(byte)); });
  static const auto u8 = tableOf([](unsigned byte) { return float(byte); });
  switch (type) {
  case DataType::kF8E4M3:
    return e4m3;
  case DataType::kF8E8M0:
    return e8m0;
  case DataType::kF4E2M1:
    return e2m1;
  case DataType::kI8:
    return i8;
  default:
    return u8;
  }
}

bool hasByteValues(DataType type) {
  return type == DataType::kF8E4M3 || type == DataType::kF8E8M0 || type == DataType::kF4E2M1 ||
         type == DataType::kI8 || type == DataType::kU8;
}

template <typename To>
void convertBytes(const std::array<float, 256> &values, const std::byte *source, std::byte *out,
                  int64_t count) {
  typename To::Bits table[256];
  for (size_t byte = 0; byte < 256; ++byte)
    table[byte] = To::narrow(values[byte]);
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(out + i * int64_t(sizeof(table[0])), &table[size_t(source[i])], sizeof(table[0]));
}

template <typename From, typename To>
void convertAll(const std::byte *source, std::byte *out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    typename From::Bits value;
    std::memcpy(&value, source + i * int64_t(sizeof(value)), sizeof(value));
    typename To::Bits result = To::narrow(From::widen(value));
    std::memcpy(out + i * int64_t(sizeof(result)), &result, sizeof(result));
  }
}

template <typename From>
void convertFrom(const std::byte *source, DataType to, std::byte *out, int64_t count) {
  switch (to) {
  case DataType::kF32:
    return convertAll<From, F32>(source, out, count);
  case DataType::kBF16:
    return convertAll<From, BF16>(source, out, count);
  case DataType::kF16:
    return convertAll<From, F16>(source, out, count);
  default:
    assert(false && "canConvertElements() says no");
  }
}

} // namespace

bool canConvertElements(DataType from, DataType to) {
  if (from == to)
    return true;
  bool readable = from == DataType::kF64 || from == DataType::kF32 || from == DataType::kBF16 ||
                  from == DataType::kF16 || hasByteValues(from);
  return readable && (to == DataType::kF32 || to == DataType::kBF16 || to == DataType::kF16);
}

void convertElements(DataType from, const std::byte *source, DataType to, std::byte *out,
                     int64_t count) {
  if (from == to) {
    std::memcpy(out, source, size_t(count * bytesInMemory(from)));
    return;
  }
  if (hasByteValues(from)) {
    const std::array<float, 256> &values = byteValues(from);
    if (to == DataType::kF32)
      return convertBytes<F32>(values, source, out, count);
    if (to == DataType::kBF16)
      return convertBytes<BF16>(values, source, out, count);
    return convertBytes<F16>(values, source, out, count);
  }
  switch (from) {
  case DataType::kF64:
    return convertFrom<F64>(source, to, out, count);
  case DataType::kF32:
    return convertFrom<F32>(source, to, out, count);
  case DataType::kBF16:
    return convertFrom<BF16>(source, to, out, count);
  case DataType::kF16:
    return convertFrom<F16>(source, to, out, count);
  default:
    assert(false && "canConvertElements() says no");
  }
}

} // namespace sluice
