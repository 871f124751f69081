//===- TinyCheckpoint.h - Checkpoints made by tests ---------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A checkpoint folder described in memory, so that a test can spoil one thing and write it. The
// numbers depend on names only.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_TEST_COMPILER_IMPORTERS_TINYCHECKPOINT_H
#define SLUICE_TEST_COMPILER_IMPORTERS_TINYCHECKPOINT_H

#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Json.h"

#include <map>
#include <string>
#include <vector>

namespace sluice::test {

struct TinyTensor {
  DataType dtype = DataType::kBF16;
  std::vector<int64_t> shape;
  int shard = 0;
};

struct TinyCheckpoint {
  json::Value config, generation; ///< generation: null = no such file
  std::map<std::string, TinyTensor> tensors;

  /// Two layers, four experts, hidden size 8: valid in every respect.
  static TinyCheckpoint mixtral();

  /// The bytes that write() stores for a tensor.
  static std::vector<uint8_t> bytesOf(const std::string &name, const TinyTensor &tensor);

  /// Writes config.json and model.safetensors, or two shards and their index.
  void write(const std::string &folder, bool sharded = false) const;
};

/// The name of shard 0 or 1.
std::string shardName(int shard);

/// The index over all tensors of a sharded checkpoint.
json::Value makeIndex(const TinyCheckpoint &checkpoint);

} // namespace sluice::test

#endif // SLUICE_TEST_COMPILER_IMPORTERS_TINYCHECKPOINT_H
