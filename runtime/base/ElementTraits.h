//===- ElementTraits.h - Unquantised element types as template arguments ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One type per element type that weights are converted between: `Bits` as stored, and its value as
// float32. Conversion and packing are templates over these, so that an element type is spelled out
// once.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_ELEMENTTRAITS_H
#define SLUICE_RUNTIME_BASE_ELEMENTTRAITS_H

#include "runtime/base/NarrowFloat.h"

#include <bit>
#include <cstdint>

namespace sluice::element {

struct F32 {
  using Bits = uint32_t;
  static float widen(Bits bits) { return std::bit_cast<float>(bits); }
  static Bits narrow(float value) { return std::bit_cast<Bits>(value); }
};
struct BF16 {
  using Bits = uint16_t;
  static float widen(Bits bits) { return bf16ToF32(bits); }
  static Bits narrow(float value) { return f32ToBf16(value); }
};
struct F16 {
  using Bits = uint16_t;
  static float widen(Bits bits) { return f16ToF32(bits); }
  static Bits narrow(float value) { return f32ToF16(value); }
};

} // namespace sluice::element

#endif // SLUICE_RUNTIME_BASE_ELEMENTTRAITS_H
