//===- Checkpoint.h - A checkpoint folder, headers only -----------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The folder as published: config.json, generation_config.json and one safetensors file or several
// with an index. Opening reads every header once and no tensor data, so that a checkpoint of a
// terabyte opens in well under a second; the data is read by ranges while the artifact is written.
// Index and headers describe the same tensors twice: where they disagree the folder is incomplete
// or mixed up, which is an error here, before any time is spent on it.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CHECKPOINT_H
#define SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CHECKPOINT_H

#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Json.h"
#include "sluice/status.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice {

/// A tensor of a checkpoint and the file that holds it.
struct CheckpointTensor {
  const SafetensorsTensor *info = nullptr; ///< name, type, shape and place; lives in the Checkpoint
  uint32_t file = 0;                       ///< index into Checkpoint::files()
};

/// An open checkpoint. Immutable and movable; reading from several threads is safe.
class Checkpoint {
public:
  /// Opens a folder. kNotFound when it, its config.json or a shard is missing, kDataCorrupt when a
  /// file does not say what it must or index and shards disagree.
  static Result<Checkpoint> open(const std::string &folder);

  /// A folder of which only the JSON files are read: every tensor an
  /// importer asks for exists, with values generated from its name.
  static Result<Checkpoint> openSynthetic(const std::string &folder);

  /// Without any folder: for modules whose weights are all synthetic or constant.
  static Checkpoint empty();

  bool isSynthetic() const { return synthetic; }
  const std::string &folder() const { return path; }
  /// The last component of the folder's absolute path: how people call the model.
  const std::string &name() const { return modelName; }

  /// The parsed config.json, its path and its text (for locations in diagnostics).
  const json::Value &config() const { return configValue; }
  const std::string &configPath() const { return configFile; }
  const std::string &configText() const { return configContent; }
  /// generation_config.json, or null when the folder has none.
  const json::Value &generationConfig() const { return generationValue; }

  /// hf_quant_config.json, or null when the folder has none.
  const json::Value &quantConfig() const { return quantValue; }

  /// The tensor of that name; nothing when there is none.
  std::optional<CheckpointTensor> find(std::string_view tensor) const;
  /// Position of the tensor in tensors(); nothing when there is none.
  std::optional<size_t> indexOf(std::string_view tensor) const;
  /// All tensors, by file and then by offset.
  const std::vector<CheckpointTensor> &tensors() const { return list; }
  /// Names of the safetensors files, relative to the folder, in the order of their names.
  const std::vector<std::string> &files() const { return fileNames; }
  std::string filePath(uint32_t file) const { return path + "/" + fileNames[file]; }

  /// Reads bytes [begin, begin + bytes) of a tensor. An error names file and offset; a file that
  /// has become shorter since it was opened is kDataCorrupt.
  Status read(const CheckpointTensor &tensor, uint64_t begin, void *destination,
              size_t bytes) const;

private:
  Status readConfigs(const std::string &folder);
  Status openFiles();
  Status readIndex(const std::string &indexPath,
                   std::unordered_map<std::string, std::string> &fileOfTensor);

  std::string path, modelName, configFile, configContent;
  json::Value configValue, generationValue, quantValue;
  bool synthetic = false;
  std::vector<std::string> fileNames;
  std::vector<SafetensorsFile> opened;
  std::vector<CheckpointTensor> list;
  std::unordered_map<std::string_view, size_t> index; ///< keys live in `opened`
};

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CHECKPOINT_H
