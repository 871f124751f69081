//===- ElementConversion.h - Elements from one type to another ----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Weights change type in bulk, a buffer at a time. Conversions go through float32, which holds
// every value of the narrower types, and round to nearest even. Elements of less than a byte are
// one byte each here, in its low bits.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_ARTIFACT_ELEMENTCONVERSION_H
#define SLUICE_COMPILER_ARTIFACT_ELEMENTCONVERSION_H

#include "runtime/base/DataType.h"

#include <cstddef>
#include <cstdint>

namespace sluice {

/// Bytes that an element takes in the compiler's memory: at least one.
constexpr int64_t bytesInMemory(DataType type) { return (dataTypeBits(type) + 7) / 8; }

/// Whether convertElements() takes the pair: from F64, F32, BF16, F16, F8_E4M3, F8_E8M0, F4, I8 or
/// U8 to F32, BF16 or F16, or equal types.
bool canConvertElements(DataType from, DataType to);

/// Converts `count` elements; the buffers must not overlap and need no alignment. The pair must be
/// one that canConvertElements() accepts.
void convertElements(DataType from, const std::byte *source, DataType to, std::byte *out,
                     int64_t count);

} // namespace sluice

#endif // SLUICE_COMPILER_ARTIFACT_ELEMENTCONVERSION_H
