//===- ElementConversion.cpp - Elements from one type to another ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/ElementConversion.h"

#include "runtime/base/ElementTraits.h"

#include <cassert>
#include <cstring>

namespace sluice {
namespace {

struct F64 {
  using Bits = double;
  static float widen(Bits value) { return static_cast<float>(value); }
};
using element::BF16;
using element::F16;
using element::F32;

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
    return dataTypeBits(from) % 8 == 0;
  bool readable = from == DataType::kF64 || from == DataType::kF32 || from == DataType::kBF16 ||
                  from == DataType::kF16;
  return readable && (to == DataType::kF32 || to == DataType::kBF16 || to == DataType::kF16);
}

void convertElements(DataType from, const std::byte *source, DataType to, std::byte *out,
                     int64_t count) {
  if (from == to) {
    std::memcpy(out, source, size_t(count) * size_t(dataTypeBits(from) / 8));
    return;
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
