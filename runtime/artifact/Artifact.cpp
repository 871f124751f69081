//===- Artifact.cpp - Open and verify an artifact directory -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The order matters: plan.pb is hashed before it is decoded, sizes and headers of weights are
// compared before their terabytes are hashed, and the cheap structural checks come before the
// expensive ones, so that a truncated copy is reported in milliseconds.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Artifact.h"

#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/PlanValidator.h"
#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Sha256.h"

#include <algorithm>
#include <cstring>
#include <sys/stat.h>
#include <thread>

namespace sluice {
namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t(64) << 20;

std::span<const uint8_t> bytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

Status hashMismatch(std::string_view file, const Sha256Digest &found, const Sha256Digest &listed) {
  return dataCorrupt("file " + quoteName(file) + " has sha256 " + toHex(found).substr(0, 16) +
                     "..., but SHA256SUMS lists " + toHex(listed).substr(0, 16) +
                     "...; copy or compile the artifact again");
}

unsigned threadCount(unsigned asked) {
  return asked ? asked : std::max(1u, std::thread::hardware_concurrency());
}

} // namespace

Result<Artifact> Artifact::open(const std::string &path, const ArtifactOptions &options) {
  auto load = [&]() -> Result<Artifact> {
    Artifact out;
    out.directory = path;
    SLUICE_RETURN_IF_ERROR(out.readManifest());
    SLUICE_RETURN_IF_ERROR(out.readPlan(options.processes));
    SLUICE_RETURN_IF_ERROR(out.mapWeights(options.rank));
    SLUICE_RETURN_IF_ERROR(out.validate());
    if (options.verify)
      SLUICE_RETURN_IF_ERROR(out.verifyFiles(threadCount(options.threads)));
    return out;
  };
  auto artifact = load();
  if (!artifact.isOk())
    return artifact.status().withContext("artifact " + path);
  return artifact;
}

std::string Artifact::pathOf(std::string_view file) const {
  return directory + "/" + std::string(file);
}

Status Artifact::readManifest() {
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0)
    return fileError("open", directory, errno);
  if (!S_ISDIR(info.st_mode))
    return dataCorrupt("is a file; an artifact is a directory that holds plan.pb");
  auto text = sluice::readFile(pathOf(kManifestFile), kMaxManifestBytes);
  if (!text.isOk() && text.status().code() == StatusCode::kNotFound)
    return notFound("has no SHA256SUMS; it is no artifact, or its copy is incomplete");
  SLUICE_RETURN_IF_ERROR(text.status());
  SLUICE_ASSIGN_OR_RETURN(files, Manifest::parse(*text));
  if (!files.find(kPlanFile))
    return dataCorrupt("SHA256SUMS does not list plan.pb");
  return Status::ok();
}

Status Artifact::readPlan(int processes) {
  SLUICE_ASSIGN_OR_RETURN(std::string bytes, readFile(kPlanFile));
  SLUICE_ASSIGN_OR_RETURN(thePlan, parsePlan(bytesOf(bytes)));
  if (processes > 0 && processes != thePlan.ranks_size()) {
    const std::string ranks = std::to_string(thePlan.ranks_size());
    return invalidArgument("is a plan of " + ranks + " ranks, but " + std::to_string(processes) +
                           " processes were started; start " + ranks + " (mpirun -n " + ranks +
                           ") or compile with --ranks=" + std::to_string(processes));
  }
  return Status::ok();
}

Status Artifact::mapWeights(int onlyRank) {
  if (onlyRank >= thePlan.ranks_size())
    return invalidArgument("rank " + std::to_string(onlyRank) + " is asked for, but the plan has " +
                           std::to_string(thePlan.ranks_size()) + " ranks");
  for (const proto::WeightsFile &record : thePlan.weights_files()) {
    const ManifestEntry *entry = files.find(record.file());
    if (!entry)
      return dataCorrupt("weights file " + quoteName(record.file()) +
                         " is not listed in SHA256SUMS");
    if (record.sha256() != std::string_view(reinterpret_cast<const char *>(entry->sha256.data()),
                                            entry->sha256.size()))
      return dataCorrupt("weights file " + quoteName(record.file()) +
                         ": plan.pb and SHA256SUMS differ on its sha256; copy or compile the "
                         "artifact again");
    std::optional<MappedFile> &file = weights.emplace_back();
    if (onlyRank >= 0 && weights.size() - 1 != static_cast<size_t>(onlyRank))
      continue;
    SLUICE_ASSIGN_OR_RETURN(file, MappedFile::open(pathOf(record.file())));
  }
  return Status::ok();
}

Status Artifact::validate() {
  std::vector<SafetensorsHeader> headers;
  headers.reserve(weights.size());
  std::vector<WeightsFacts> facts;
  for (size_t i = 0; i < weights.size(); ++i) {
    const proto::WeightsFile &record = thePlan.weights_files(static_cast<int>(i));
    if (!weights[i]) {
      facts.push_back({});
      continue;
    }
    if (record.bytes() != weights[i]->size())
      return dataCorrupt("weights file " + quoteName(record.file()) + " has " +
                         std::to_string(weights[i]->size()) + " bytes, but the plan says " +
                         std::to_string(record.bytes()) + "; copy or compile the artifact again");
    SLUICE_ASSIGN_OR_RETURN(
        SafetensorsHeader header,
        SafetensorsHeader::parse(weights[i]->bytes(), weights[i]->size(), record.file()));
    headers.push_back(std::move(header));
    facts.push_back({weights[i]->size(), &headers.back()});
  }
  SLUICE_ASSIGN_OR_RETURN(kernelList, validatePlan(thePlan, facts));
  return Status::ok();
}

Status Artifact::verifyFiles(unsigned threads) const {
  for (size_t i = 0; i < weights.size(); ++i)
    if (weights[i])
      SLUICE_RETURN_IF_ERROR(verifyWeights(i, threads));
  auto isWeights = [&](const std::string &path) {
    return std::any_of(thePlan.weights_files().begin(), thePlan.weights_files().end(),
                       [&](const proto::WeightsFile &record) { return record.file() == path; });
  };
  for (const ManifestEntry &entry : files.entries()) {
    if (entry.path == kPlanFile || isWeights(entry.path))
      continue;
    SLUICE_ASSIGN_OR_RETURN(Sha256Digest digest, hashFile(pathOf(entry.path)));
    if (digest != entry.sha256)
      return hashMismatch(entry.path, digest, entry.sha256);
  }
  return Status::ok();
}

Status Artifact::verifyWeights(size_t rank, unsigned threads) const {
  const proto::WeightsFile &record = thePlan.weights_files(static_cast<int>(rank));
  std::vector<Sha256Digest> found =
      hashChunks(weights[rank]->bytes(), record.chunk_bytes(), threads);
  for (size_t i = 0; i < found.size(); ++i) {
    const std::string &expected = record.chunk_sha256(static_cast<int>(i));
    if (std::memcmp(found[i].data(), expected.data(), found[i].size()) != 0)
      return dataCorrupt("weights file " + quoteName(record.file()) + ": the sha256 of chunk " +
                         std::to_string(i) + " (bytes from " +
                         std::to_string(i * record.chunk_bytes()) +
                         ") differs from the plan's; copy or compile the artifact again");
  }
  return Status::ok();
}

std::span<const uint8_t> Artifact::weightsData(size_t rank) const {
  return weights[rank]->bytes().subspan(thePlan.weights_files(static_cast<int>(rank)).data_start());
}

Result<std::string> Artifact::readFile(std::string_view path) const {
  const ManifestEntry *entry = files.find(path);
  if (!entry)
    return notFound("artifact " + directory + " has no file " + quoteName(path));
  SLUICE_ASSIGN_OR_RETURN(std::string content, sluice::readFile(pathOf(path)));
  Sha256Digest digest = sha256(content);
  if (digest != entry->sha256)
    return hashMismatch(path, digest, entry->sha256);
  return content;
}

} // namespace sluice
