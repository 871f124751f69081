//===- ProfileFile.cpp - Reading and writing profiles -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/ProfileFile.h"

#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Json.h"
#include "runtime/profile/TensorNumbers.h"
#include "runtime/profile/TorchArchive.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <unistd.h>

namespace sluice {
namespace {

constexpr char kFormat[] = "sluice-profile-1";
constexpr char kIdsPrefix[] = "ids.";
constexpr uint64_t kMaxTextBytes = uint64_t(1) << 30;

Status requireShape(const SafetensorsTensor &tensor, size_t rank, const std::string &name) {
  if (tensor.shape.size() == rank)
    return Status::ok();
  return dataCorrupt(name + ": tensor \"" + tensor.name + "\" has rank " +
                     std::to_string(tensor.shape.size()) + ", a profile has " +
                     std::to_string(rank) + " dimensions there");
}

Result<ProfileDomain> readIds(const SafetensorsFile &file, const SafetensorsTensor &tensor,
                              std::string name) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<double> values, readNumbers(file, tensor));
  ProfileDomain domain{std::move(name), {}};
  domain.ids.reserve(values.size());
  for (double value : values) {
    if (value < 0 || value > kNoExpert)
      return dataCorrupt(file.path() + ": tensor \"" + tensor.name + "\" holds the expert id " +
                         std::to_string(value) + "; ids are 0 .. 65534");
    domain.ids.push_back(static_cast<uint16_t>(value));
  }
  return domain;
}

/// [layers, experts] of one domain's ids.
void countIds(const Profile &profile, const ProfileDomain &domain, double *counts) {
  for (size_t i = 0; i < domain.ids.size(); ++i) {
    size_t layer = i / profile.topK % profile.layers;
    if (domain.ids[i] < profile.experts)
      counts[layer * profile.experts + domain.ids[i]] += 1;
  }
}

Result<Profile> readBareTraces(const SafetensorsFile &file) {
  Profile profile;
  for (const SafetensorsTensor &tensor : file.tensors()) {
    if (isSafetensorsPadding(tensor.name))
      continue;
    SLUICE_RETURN_IF_ERROR(requireShape(tensor, 3, file.path()));
    int64_t layers = tensor.shape[1], topK = tensor.shape[2];
    if (layers < 1 || layers > kNoExpert || topK < 1 || topK > kNoExpert ||
        (profile.layers && (profile.layers != layers || profile.topK != topK)))
      return dataCorrupt(file.path() + ": tensor \"" + tensor.name + "\" has " +
                         std::to_string(layers) + " layers and top_k " + std::to_string(topK) +
                         ", unlike the tensors before it");
    profile.layers = static_cast<int>(layers);
    profile.topK = static_cast<int>(topK);
    SLUICE_ASSIGN_OR_RETURN(ProfileDomain domain, readIds(file, tensor, tensor.name));
    for (uint16_t id : domain.ids)
      if (id != kNoExpert)
        profile.experts = std::max(profile.experts, id + 1);
    profile.domains.push_back(std::move(domain));
  }
  if (profile.domains.empty() || profile.experts == 0)
    return dataCorrupt(file.path() +
                       ": it holds no expert ids; a profile has the tensor \"counts\" "
                       "or traces [tokens, layers, top_k]");
  // In the order of names: safetensors files keep none that means anything.
  std::sort(profile.domains.begin(), profile.domains.end(),
            [](const ProfileDomain &a, const ProfileDomain &b) { return a.name < b.name; });
  profile.windows = static_cast<int>(profile.domains.size());
  SLUICE_RETURN_IF_ERROR(
      checkProfileSize(profile.windows, profile.layers, profile.experts, file.path()));
  size_t perWindow = static_cast<size_t>(profile.layers) * profile.experts;
  profile.counts.assign(perWindow * profile.windows, 0.0);
  for (int w = 0; w < profile.windows; ++w)
    countIds(profile, profile.domains[w], profile.counts.data() + perWindow * w);
  return profile;
}

Result<Profile> readSafetensorsProfile(const std::string &path) {
  SLUICE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second.rfind("sluice-profile-", 0) != 0)
    return readBareTraces(file);
  if (format->second != kFormat)
    return Status(StatusCode::kVersionMismatch, path + ": its format is \"" + format->second +
                                                    "\"; this build reads \"" + kFormat + "\"");
  const SafetensorsTensor *counts = file.find("counts");
  if (!counts)
    return dataCorrupt(path + ": it has no tensor \"counts\" [windows, layers, experts]");
  SLUICE_RETURN_IF_ERROR(requireShape(*counts, 3, path));
  for (int64_t size : counts->shape)
    if (size < 1 || size > (1 << 24))
      return dataCorrupt(path + ": tensor \"counts\" has a dimension of " + std::to_string(size));
  Profile profile;
  profile.windows = static_cast<int>(counts->shape[0]);
  profile.layers = static_cast<int>(counts->shape[1]);
  profile.experts = static_cast<int>(counts->shape[2]);
  SLUICE_ASSIGN_OR_RETURN(profile.counts, readNumbers(file, *counts));
  if (auto model = file.metadata().find("model"); model != file.metadata().end())
    profile.model = model->second;
  if (auto topK = file.metadata().find("top_k"); topK != file.metadata().end()) {
    const std::string &text = topK->second;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), profile.topK);
    if (error != std::errc() || end != text.data() + text.size())
      return dataCorrupt(path + ": metadata top_k \"" + text + "\" is no number");
  }
  for (const SafetensorsTensor &tensor : file.tensors()) {
    if (tensor.name.rfind(kIdsPrefix, 0) != 0)
      continue;
    SLUICE_RETURN_IF_ERROR(requireShape(tensor, 3, path));
    if (tensor.shape[1] != profile.layers || tensor.shape[2] != profile.topK)
      return dataCorrupt(path + ": tensor \"" + tensor.name + "\" is not [tokens, " +
                         std::to_string(profile.layers) + ", " + std::to_string(profile.topK) +
                         "] as the counts and top_k say");
    SLUICE_ASSIGN_OR_RETURN(ProfileDomain domain,
                            readIds(file, tensor, tensor.name.substr(sizeof(kIdsPrefix) - 1)));
    profile.domains.push_back(std::move(domain));
  }
  return profile;
}

/// [layers][experts] numbers appended to `profile`, as its next window.
Status appendWindow(Profile &profile, const json::Cursor &layers) {
  int count = static_cast<int>(layers.value().size());
  if (profile.windows > 0 && count != profile.layers)
    return layers.error(std::to_string(count) + " layers, the window before has " +
                        std::to_string(profile.layers));
  profile.layers = count;
  for (int l = 0; l < count; ++l) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor row, layers.element(l));
    const json::Array *values = row.value().arrayIf();
    if (!values || values->empty())
      return row.error("expected a list of counts, one per expert");
    if (profile.experts && static_cast<int>(values->size()) != profile.experts)
      return row.error(std::to_string(values->size()) + " experts, the layer before has " +
                       std::to_string(profile.experts));
    profile.experts = static_cast<int>(values->size());
    for (const json::Value &value : *values) {
      Result<double> number = value.asDouble();
      if (!number.isOk())
        return row.error(number.status().message());
      profile.counts.push_back(*number);
    }
  }
  ++profile.windows;
  return Status::ok();
}

/// Lets `write` fill a temporary file beside `path`, which then takes its place; on failure `path`
/// is as it was.
template <typename Write> Status replaceFile(const std::string &path, const Write &write) {
  const std::string temporary = path + ".part" + std::to_string(::getpid());
  Status status = write(temporary);
  std::error_code error;
  if (status.isOk()) {
    std::filesystem::rename(temporary, path, error);
    if (error)
      status = ioError("cannot rename " + temporary + " to " + path + ": " + error.message());
  }
  if (!status.isOk())
    std::filesystem::remove(temporary, error);
  return status;
}

} // namespace

Result<Profile> parseSglangProfile(std::string_view text, const std::string &name) {
  SLUICE_ASSIGN_OR_RETURN(json::Value document, json::parse(text, name));
  json::Cursor root(document, name);
  SLUICE_ASSIGN_OR_RETURN(json::Cursor counts, root.getArray("logical_count"));
  Profile profile;
  const json::Array &outer = *counts.value().arrayIf();
  const json::Array *first = outer.empty() ? nullptr : outer[0].arrayIf();
  if (!first || first->empty())
    return counts.error("expected [layers][experts] or [windows][layers][experts]");
  if (!(*first)[0].isArray()) {
    SLUICE_RETURN_IF_ERROR(appendWindow(profile, counts));
  } else {
    for (size_t w = 0; w < outer.size(); ++w) {
      SLUICE_ASSIGN_OR_RETURN(json::Cursor window, counts.element(w));
      if (!window.value().isArray() || window.value().size() == 0)
        return window.error("expected [layers][experts]");
      SLUICE_RETURN_IF_ERROR(appendWindow(profile, window));
    }
  }
  SLUICE_RETURN_IF_ERROR(checkProfile(profile, name));
  return profile;
}

Result<Profile> readProfile(const std::string &path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    return readTensorRtLlmProfile(path);
  char start[9] = {};
  {
    SLUICE_ASSIGN_OR_RETURN(RandomAccessFile file, RandomAccessFile::open(path));
    SLUICE_RETURN_IF_ERROR(file.read(0, start, std::min<uint64_t>(sizeof(start), file.size())));
  }
  Profile profile;
  if (std::string_view(start, 4) == std::string_view("PK\3\4", 4)) {
    SLUICE_ASSIGN_OR_RETURN(std::string bytes, readFile(path, kMaxTextBytes));
    SLUICE_ASSIGN_OR_RETURN(profile, parseTorchProfile(bytes, path));
  } else if (start[8] == '{') { // eight bytes of header length, then the header
    SLUICE_ASSIGN_OR_RETURN(profile, readSafetensorsProfile(path));
  } else {
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(path, kMaxTextBytes));
    return parseSglangProfile(text, path);
  }
  SLUICE_RETURN_IF_ERROR(checkProfile(profile, path));
  return profile;
}

Status writeProfile(const Profile &profile, const std::string &path) {
  SLUICE_RETURN_IF_ERROR(checkProfile(profile, path));
  SafetensorsWriter writer;
  SLUICE_RETURN_IF_ERROR(writer.setMetadata("format", kFormat));
  if (!profile.model.empty())
    SLUICE_RETURN_IF_ERROR(writer.setMetadata("model", profile.model));
  if (profile.topK > 0)
    SLUICE_RETURN_IF_ERROR(writer.setMetadata("top_k", std::to_string(profile.topK)));
  SLUICE_RETURN_IF_ERROR(
      writer.declare("counts", DataType::kF64, {profile.windows, profile.layers, profile.experts})
          .status());
  for (const ProfileDomain &domain : profile.domains)
    SLUICE_RETURN_IF_ERROR(writer
                               .declare(kIdsPrefix + domain.name, DataType::kU16,
                                        {profile.tokens(domain), profile.layers, profile.topK})
                               .status());
  return replaceFile(path, [&](const std::string &temporary) -> Status {
    SLUICE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create(temporary));
    SLUICE_RETURN_IF_ERROR(writer.begin(std::move(output)));
    auto bytes = [](const auto &values) {
      return std::span<const uint8_t>(reinterpret_cast<const uint8_t *>(values.data()),
                                      values.size() * sizeof(values[0]));
    };
    SLUICE_RETURN_IF_ERROR(writer.append("counts", bytes(profile.counts)));
    for (const ProfileDomain &domain : profile.domains)
      if (!domain.ids.empty())
        SLUICE_RETURN_IF_ERROR(writer.append(kIdsPrefix + domain.name, bytes(domain.ids)));
    return writer.finish().status();
  });
}

Status writeFileAtomically(const std::string &path, std::string_view content) {
  return replaceFile(path,
                     [&](const std::string &temporary) { return writeFile(temporary, content); });
}

} // namespace sluice
