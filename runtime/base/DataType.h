//===- DataType.h - Element types of stored tensors -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One list of element types with their widths and their names in safetensors files, shared by the
// readers, the compiler and the runtime. Types that no kernel computes with are listed too: a
// checkpoint that holds one is well-formed, and refusing it is the importer's decision, with a
// better message than "unknown".
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_DATATYPE_H
#define SLUICE_RUNTIME_BASE_DATATYPE_H

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sluice {

/// The type of a tensor's elements as stored. Sub-byte elements are packed, first element in the
/// low bits.
enum class DataType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3, ///< finite only (e4m3fn): largest 448, no infinity
  kF8E5M2,
  kF8E8M0, ///< unsigned powers of two, the scales of MX formats
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF6E2M3,
  kF6E3M2,
  kF4E2M1,
  kI64,
  kU64,
  kI32,
  kU32,
  kI16,
  kU16,
  kI8,
  kU8,
  kBool, ///< one byte, 0 or 1
  kC64,  ///< two F32: real, imaginary
};

namespace detail {
struct DataTypeRow {
  DataType type;
  const char *name;
  int bits;
};
inline constexpr std::array<DataTypeRow, 22> kDataTypes{{
    {DataType::kF64, "F64", 64},
    {DataType::kF32, "F32", 32},
    {DataType::kF16, "F16", 16},
    {DataType::kBF16, "BF16", 16},
    {DataType::kF8E4M3, "F8_E4M3", 8},
    {DataType::kF8E5M2, "F8_E5M2", 8},
    {DataType::kF8E8M0, "F8_E8M0", 8},
    {DataType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    {DataType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    {DataType::kF6E2M3, "F6_E2M3", 6},
    {DataType::kF6E3M2, "F6_E3M2", 6},
    {DataType::kF4E2M1, "F4", 4},
    {DataType::kI64, "I64", 64},
    {DataType::kU64, "U64", 64},
    {DataType::kI32, "I32", 32},
    {DataType::kU32, "U32", 32},
    {DataType::kI16, "I16", 16},
    {DataType::kU16, "U16", 16},
    {DataType::kI8, "I8", 8},
    {DataType::kU8, "U8", 8},
    {DataType::kBool, "BOOL", 8},
    {DataType::kC64, "C64", 64},
}};
constexpr bool dataTypeRowsMatchEnum() {
  for (size_t i = 0; i < kDataTypes.size(); ++i)
    if (static_cast<size_t>(kDataTypes[i].type) != i)
      return false;
  return true;
}
static_assert(dataTypeRowsMatchEnum(), "the table is indexed by the enumerator");
} // namespace detail

/// Every DataType value is below this.
inline constexpr size_t kNumDataTypes = detail::kDataTypes.size();

/// Bits of one element.
constexpr int dataTypeBits(DataType type) {
  return detail::kDataTypes[static_cast<size_t>(type)].bits;
}

/// The name in safetensors files, "BF16", "F8_E4M3".
constexpr const char *dataTypeName(DataType type) {
  return detail::kDataTypes[static_cast<size_t>(type)].name;
}

/// The inverse of dataTypeName(); nothing for an unknown name.
constexpr std::optional<DataType> parseDataType(std::string_view name) {
  for (const detail::DataTypeRow &row : detail::kDataTypes)
    if (name == row.name)
      return row.type;
  return std::nullopt;
}

/// The number of elements of `shape` (1 for a scalar); nothing when an extent is negative or the
/// product exceeds int64, whatever the order of the extents.
constexpr std::optional<int64_t> numElements(std::span<const int64_t> shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t extent : shape) {
    if (extent < 0)
      return std::nullopt;
    empty |= extent == 0;
  }
  if (empty)
    return 0;
  for (int64_t extent : shape) {
    if (product > INT64_MAX / extent)
      return std::nullopt;
    product *= extent;
  }
  return product;
}

/// The bytes of a dense tensor; nothing when they exceed int64, an extent is negative, or sub-byte
/// elements do not fill whole bytes.
constexpr std::optional<uint64_t> tensorBytes(DataType type, std::span<const int64_t> shape) {
  std::optional<int64_t> count = numElements(shape);
  uint64_t bits = static_cast<uint64_t>(dataTypeBits(type));
  if (!count || static_cast<uint64_t>(*count) > uint64_t(INT64_MAX) / bits)
    return std::nullopt;
  uint64_t total = static_cast<uint64_t>(*count) * bits;
  if (total % 8 != 0)
    return std::nullopt;
  return total / 8;
}

} // namespace sluice

#endif // SLUICE_RUNTIME_BASE_DATATYPE_H
