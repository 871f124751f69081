//===- ReadTensorRtLlm.cpp - Expert statistics of TensorRT-LLM --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// TensorRT-LLM writes one safetensors file per rank, each with the tensors "{iteration}_{layer}" of
// the iterations it recorded, and meta_info.json beside them. Ranks see different tokens, so their
// counts add up; iterations become windows.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Json.h"
#include "runtime/profile/ProfileFile.h"
#include "runtime/profile/TensorNumbers.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

namespace sluice {
namespace {

constexpr int kMaxLayers = 1 << 16;

/// "12_3" -> {12, 3}.
bool parseKey(const std::string &name, int &iteration, int &layer) {
  const char *at = name.data(), *end = at + name.size();
  auto [middle, error] = std::from_chars(at, end, iteration);
  if (error != std::errc() || middle == end || *middle != '_')
    return false;
  auto [last, error2] = std::from_chars(middle + 1, end, layer);
  return error2 == std::errc() && last == end && iteration >= 0 && layer >= 0 && layer < kMaxLayers;
}

} // namespace

Result<Profile> readTensorRtLlmProfile(const std::string &folder) {
  SLUICE_ASSIGN_OR_RETURN(json::Value meta, json::parseFile(folder + "/meta_info.json"));
  json::Cursor root(meta, folder + "/meta_info.json");
  Profile profile;
  SLUICE_ASSIGN_OR_RETURN(int64_t experts, root.getInt("num_experts"));
  SLUICE_ASSIGN_OR_RETURN(int64_t topK, root.getIntOr("num_experts_per_token", 0));
  if (experts < 1 || experts >= kNoExpert || topK < 0 || topK > experts)
    return root.error("num_experts " + std::to_string(experts) + " and num_experts_per_token " +
                      std::to_string(topK) + " are no sizes of a model");
  profile.experts = static_cast<int>(experts);
  profile.topK = static_cast<int>(topK);

  std::vector<std::string> files;
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".safetensors")
      files.push_back(entry.path().string());
  if (error)
    return ioError("cannot list " + folder + ": " + error.message());
  if (files.empty())
    return notFound(folder + " holds no .safetensors file beside meta_info.json");
  std::sort(files.begin(), files.end());

  std::map<int, std::map<int, std::vector<double>>> windows; // iteration, layer
  for (const std::string &path : files) {
    SLUICE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
    for (const SafetensorsTensor &tensor : file.tensors()) {
      if (isSafetensorsPadding(tensor.name))
        continue;
      int iteration = 0, layer = 0;
      if (!parseKey(tensor.name, iteration, layer))
        return dataCorrupt(path + ": tensor \"" + tensor.name +
                           "\" is not named {iteration}_{layer}");
      if (tensor.shape.size() != 1 || tensor.shape[0] != experts)
        return dataCorrupt(path + ": tensor \"" + tensor.name + "\" is not [" +
                           std::to_string(experts) + "], one count per expert of meta_info.json");
      SLUICE_ASSIGN_OR_RETURN(std::vector<double> values, readNumbers(file, tensor));
      std::vector<double> &sum = windows[iteration][layer];
      sum.resize(experts, 0.0);
      for (int64_t e = 0; e < experts; ++e)
        sum[e] += values[e];
      profile.layers = std::max(profile.layers, layer + 1);
    }
  }
  profile.windows = static_cast<int>(windows.size());
  SLUICE_RETURN_IF_ERROR(
      checkProfileSize(profile.windows, profile.layers, profile.experts, folder));
  for (const auto &[iteration, layers] : windows) {
    for (int layer = 0; layer < profile.layers; ++layer) {
      auto counts = layers.find(layer);
      if (counts == layers.end())
        profile.counts.insert(profile.counts.end(), profile.experts, 0.0);
      else
        profile.counts.insert(profile.counts.end(), counts->second.begin(), counts->second.end());
    }
  }
  SLUICE_RETURN_IF_ERROR(checkProfile(profile, folder));
  return profile;
}

} // namespace sluice
