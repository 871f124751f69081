//===- TensorNumbers.h - Counts and ids from tensors of any type ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Recorders write counts as whatever integer or float was at hand. Everything below 2^53 is exact
// in a double, and no profile counts further.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_PROFILE_TENSORNUMBERS_H
#define SLUICE_RUNTIME_PROFILE_TENSORNUMBERS_H

#include "runtime/artifact/Safetensors.h"

#include <cstring>

namespace sluice {

/// Calls `f(T{})` with the C++ type of a whole number or float of 1 to 8 bytes; false for the rest.
template <typename F> bool withNumberType(DataType dtype, F f) {
  switch (dtype) {
  case DataType::kF64:
    return f(double{}), true;
  case DataType::kF32:
    return f(float{}), true;
  case DataType::kI64:
    return f(int64_t{}), true;
  case DataType::kU64:
    return f(uint64_t{}), true;
  case DataType::kI32:
    return f(int32_t{}), true;
  case DataType::kU32:
    return f(uint32_t{}), true;
  case DataType::kI16:
    return f(int16_t{}), true;
  case DataType::kU16:
    return f(uint16_t{}), true;
  case DataType::kI8:
    return f(int8_t{}), true;
  case DataType::kU8:
    return f(uint8_t{}), true;
  default:
    return false;
  }
}

/// All elements of a tensor as doubles. kDataCorrupt for a type that holds no counts.
inline Result<std::vector<double>> readNumbers(const SafetensorsFile &file,
                                               const SafetensorsTensor &tensor) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, file.read(tensor));
  std::vector<double> values;
  bool known = withNumberType(tensor.dtype, [&](auto zero) {
    values.resize(bytes.size() / sizeof(zero));
    for (size_t i = 0; i < values.size(); ++i) {
      std::memcpy(&zero, bytes.data() + i * sizeof(zero), sizeof(zero));
      values[i] = static_cast<double>(zero);
    }
  });
  if (!known)
    return dataCorrupt(file.path() + ": tensor \"" + tensor.name +
                       "\" is of a type that holds no counts; integers, F32 and F64 do");
  return values;
}

} // namespace sluice

#endif // SLUICE_RUNTIME_PROFILE_TENSORNUMBERS_H
