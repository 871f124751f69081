//===- Checkpoint.cpp - A checkpoint folder, headers only -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Which file is read follows what Hugging Face's loader does: model.safetensors when it exists,
// else the shards that model.safetensors.index.json lists. Other files of the folder are never
// touched (publishers put consolidated copies and other formats beside them).
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/checkpoint/Checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>

namespace sluice {

namespace fs = std::filesystem;

static constexpr char kSingleFile[] = "model.safetensors";
static constexpr char kIndexFile[] = "model.safetensors.index.json";
/// Tensors named in one message before "and N more".
static constexpr size_t kMaxNamed = 5;

static std::string inQuotes(std::string_view text) { return "\"" + std::string(text) + "\""; }

/// "a", "b", ... and N more.
static std::string nameSome(const std::vector<std::string> &names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMaxNamed; ++i)
    text += (i ? ", " : "") + inQuotes(names[i]);
  if (names.size() > kMaxNamed)
    text += " and " + std::to_string(names.size() - kMaxNamed) + " more";
  return text;
}

static bool exists(const std::string &file) {
  std::error_code error;
  return fs::exists(file, error);
}

Checkpoint Checkpoint::empty() {
  Checkpoint checkpoint;
  checkpoint.synthetic = true;
  return checkpoint;
}

Status Checkpoint::readConfigs(const std::string &folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return notFound("checkpoint " + inQuotes(folder) +
                    (exists(folder) ? " is not a folder" : " does not exist") +
                    "; expected a folder with config.json and safetensors files");
  path = folder;
  fs::path absolute = fs::weakly_canonical(folder, error);
  modelName = (error ? fs::path(folder) : absolute).filename().string();
  if (modelName.empty())
    modelName = "model";
  configFile = path + "/config.json";
  if (!exists(configFile))
    return notFound("checkpoint " + inQuotes(folder) +
                    " has no config.json; expected a folder as published on the Hugging Face hub");
  SLUICE_ASSIGN_OR_RETURN(configContent, readFile(configFile));
  SLUICE_ASSIGN_OR_RETURN(configValue, json::parse(configContent, configFile));
  if (!configValue.isObject())
    return dataCorrupt(configFile + ": expected an object, found " +
                       json::kindName(configValue.kind()));
  auto readOptional = [&](const char *name, json::Value &value) -> Status {
    std::string file = path + "/" + name;
    if (!exists(file))
      return Status::ok();
    SLUICE_ASSIGN_OR_RETURN(value, json::parseFile(file));
    if (!value.isObject())
      return dataCorrupt(file + ": expected an object, found " + json::kindName(value.kind()));
    return Status::ok();
  };
  SLUICE_RETURN_IF_ERROR(readOptional("generation_config.json", generationValue));
  return readOptional("hf_quant_config.json", quantValue);
}

Status Checkpoint::readIndex(const std::string &indexPath,
                             std::unordered_map<std::string, std::string> &fileOfTensor) {
  SLUICE_ASSIGN_OR_RETURN(json::Value root, json::parseFile(indexPath));
  SLUICE_ASSIGN_OR_RETURN(json::Cursor map, json::Cursor(root, indexPath).getObject("weight_map"));
  for (const json::Member &member : *map.value().objectIf()) {
    const std::string *file = member.value.stringIf();
    if (!file)
      return map.error("tensor " + inQuotes(member.key) + ": expected a file name, found " +
                       json::kindName(member.value.kind()));
    // A shard lies beside its index; a path that leads elsewhere is not one we follow.
    if (file->empty() || file->find('/') != std::string::npos || *file == "." || *file == "..")
      return map.error("tensor " + inQuotes(member.key) + ": file " + inQuotes(*file) +
                       " is not the name of a file in the checkpoint's folder");
    fileOfTensor.emplace(member.key, *file);
  }
  if (fileOfTensor.empty())
    return map.error("it lists no tensor");
  return Status::ok();
}

Status Checkpoint::openFiles() {
  std::unordered_map<std::string, std::string> fileOfTensor;
  std::string indexPath = path + "/" + kIndexFile;
  if (exists(path + "/" + kSingleFile)) {
    fileNames = {kSingleFile};
  } else if (exists(indexPath)) {
    SLUICE_RETURN_IF_ERROR(readIndex(indexPath, fileOfTensor));
    for (const auto &[tensor, file] : fileOfTensor)
      fileNames.push_back(file);
    std::sort(fileNames.begin(), fileNames.end());
    fileNames.erase(std::unique(fileNames.begin(), fileNames.end()), fileNames.end());
    std::vector<std::string> missing;
    for (const std::string &file : fileNames)
      if (!exists(path + "/" + file))
        missing.push_back(file);
    if (!missing.empty())
      return notFound(indexPath + ": it lists " + std::to_string(fileNames.size()) +
                      " files, but the folder lacks " + nameSome(missing) +
                      "; download the rest of the checkpoint");
  } else {
    bool pickled =
        exists(path + "/pytorch_model.bin") || exists(path + "/pytorch_model.bin.index.json");
    return notFound(
        "checkpoint " + inQuotes(path) + " has neither " + kSingleFile + " nor " + kIndexFile +
        (pickled ? "; its PyTorch .bin files are not read, convert them to safetensors" : ""));
  }

  opened.reserve(fileNames.size());
  for (const std::string &file : fileNames) {
    SLUICE_ASSIGN_OR_RETURN(SafetensorsFile shard, SafetensorsFile::open(path + "/" + file));
    opened.push_back(std::move(shard));
  }
  std::vector<std::string> unlisted;
  for (uint32_t file = 0; file < opened.size(); ++file)
    for (const SafetensorsTensor &tensor : opened[file].tensors()) {
      if (isSafetensorsPadding(tensor.name)) // of files that our own writer made
        continue;
      if (!fileOfTensor.empty()) {
        auto listed = fileOfTensor.find(tensor.name);
        if (listed == fileOfTensor.end() || listed->second != fileNames[file]) {
          unlisted.push_back(tensor.name);
          continue;
        }
      }
      index.emplace(tensor.name, list.size());
      list.push_back({&tensor, file});
    }
  if (!unlisted.empty())
    return dataCorrupt(indexPath + ": the shards hold " + nameSome(unlisted) +
                       ", which the index does not list there; index and shards belong to "
                       "different checkpoints");
  std::map<std::string, std::vector<std::string>> absent;
  for (const auto &[tensor, file] : fileOfTensor)
    if (!index.count(tensor))
      absent[file].push_back(tensor);
  if (!absent.empty()) {
    auto &[file, tensors] = *absent.begin();
    std::sort(tensors.begin(), tensors.end());
    return dataCorrupt(path + "/" + file + ": " + kIndexFile + " says that it holds " +
                       nameSome(tensors) + ", but it does not; download the file again");
  }
  return Status::ok();
}

Result<Checkpoint> Checkpoint::open(const std::string &folder) {
  Checkpoint checkpoint;
  SLUICE_RETURN_IF_ERROR(checkpoint.readConfigs(folder));
  SLUICE_RETURN_IF_ERROR(checkpoint.openFiles());
  return checkpoint;
}

Result<Checkpoint> Checkpoint::openSynthetic(const std::string &folder) {
  Checkpoint checkpoint;
  checkpoint.synthetic = true;
  SLUICE_RETURN_IF_ERROR(checkpoint.readConfigs(folder));
  return checkpoint;
}

std::optional<size_t> Checkpoint::indexOf(std::string_view tensor) const {
  auto it = index.find(tensor);
  if (it == index.end())
    return std::nullopt;
  return it->second;
}

std::optional<CheckpointTensor> Checkpoint::find(std::string_view tensor) const {
  std::optional<size_t> position = indexOf(tensor);
  if (!position)
    return std::nullopt;
  return list[*position];
}

Status Checkpoint::read(const CheckpointTensor &tensor, uint64_t begin, void *destination,
                        size_t bytes) const {
  return opened[tensor.file].read(*tensor.info, begin, destination, bytes);
}

} // namespace sluice
