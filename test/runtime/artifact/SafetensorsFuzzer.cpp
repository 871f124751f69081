//===- SafetensorsFuzzer.cpp - Fuzz target of the safetensors reader --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The input is a whole file. Beyond "no crash", the promises that callers rely on are checked: each
// accepted tensor lies inside the file and its size agrees with its type and shape.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"

#include <cstdlib>

using namespace sluice;

static void require(bool condition) {
  if (!condition)
    std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Result<SafetensorsHeader> header = SafetensorsHeader::parse({data, size}, size, "input");
  if (!header.isOk()) {
    require(header.status().code() == StatusCode::kDataCorrupt);
    return 0;
  }
  uint64_t reached = header->dataStart();
  for (const SafetensorsTensor &tensor : header->tensors()) {
    require(tensor.offset == reached && tensor.bytes <= size - reached);
    require(tensorBytes(tensor.dtype, tensor.shape) == tensor.bytes);
    require(header->find(tensor.name) == &tensor);
    reached += tensor.bytes;
  }
  require(reached == size);
  return 0;
}
