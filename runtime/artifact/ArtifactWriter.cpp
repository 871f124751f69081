//===- ArtifactWriter.cpp - Write an artifact directory ---------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// plan.pb comes last because it records the hashes of the weights, SHA256SUMS after it because it
// records the hash of plan.pb; AtomicDirectory does the rest.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/ArtifactWriter.h"

#include "runtime/artifact/PlanRecords.h"
#include "runtime/artifact/PlanValidator.h"

#include <cerrno>
#include <sys/stat.h>

namespace sluice {
namespace {

std::string bytesOf(const Sha256Digest &digest) {
  return {reinterpret_cast<const char *>(digest.data()), digest.size()};
}

} // namespace

std::string weightsFileName(size_t rank) {
  return "weights/rank-" + std::to_string(rank) + ".safetensors";
}

Result<ArtifactWriter> ArtifactWriter::begin(const std::string &destination) {
  SLUICE_ASSIGN_OR_RETURN(AtomicDirectory directory,
                          AtomicDirectory::create(destination, kPlanFile));
  return ArtifactWriter(std::move(directory));
}

Status ArtifactWriter::createParents(std::string_view path) {
  SLUICE_RETURN_IF_ERROR(checkArtifactPath(path));
  for (size_t slash = path.find('/'); slash != std::string_view::npos;
       slash = path.find('/', slash + 1)) {
    std::string_view folder = path.substr(0, slash);
    if (folders.contains(folder))
      continue;
    std::string name = directory.file(folder);
    if (::mkdir(name.c_str(), 0777) != 0)
      return fileError("create", name, errno);
    folders.emplace(folder);
  }
  return Status::ok();
}

Status ArtifactWriter::addFile(std::string_view path, std::string_view bytes) {
  SLUICE_RETURN_IF_ERROR(createParents(path));
  SLUICE_RETURN_IF_ERROR(files.add(std::string(path), sha256(bytes)));
  return writeFile(directory.file(path), bytes);
}

Result<WeightsWriter *>
ArtifactWriter::weightsFile(std::span<const WeightDeclaration> declarations) {
  SLUICE_RETURN_IF_ERROR(finishWeights());
  auto next = std::make_unique<WeightsWriter>();
  for (const WeightDeclaration &declaration : declarations) {
    SLUICE_ASSIGN_OR_RETURN(
        uint64_t offset,
        next->writer.declare(declaration.name, declaration.dtype, declaration.shape));
    next->places.push_back(offset);
  }
  std::string path = weightsFileName(weights.size());
  SLUICE_RETURN_IF_ERROR(createParents(path));
  SLUICE_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(directory.file(path)));
  SLUICE_RETURN_IF_ERROR(next->writer.begin(std::move(file)));
  current = std::move(next);
  return current.get();
}

Status ArtifactWriter::finishWeights() {
  if (!current)
    return Status::ok();
  auto summary = current->writer.finish();
  current.reset();
  SLUICE_RETURN_IF_ERROR(summary.status());
  SLUICE_RETURN_IF_ERROR(files.add(weightsFileName(weights.size()), summary->sha256));
  weights.push_back(std::move(*summary));
  return Status::ok();
}

Status ArtifactWriter::validate() {
  std::vector<SafetensorsFile> opened;
  opened.reserve(weights.size());
  std::vector<WeightsFacts> facts;
  for (size_t i = 0; i < weights.size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(SafetensorsFile file,
                            SafetensorsFile::open(directory.file(weightsFileName(i))));
    opened.push_back(std::move(file));
    facts.push_back({weights[i].fileBytes, &opened.back().header()});
  }
  Status status = validatePlan(*thePlan, facts).status();
  if (!status.isOk())
    return internalError("the compiled plan is not valid: " + std::string(status.message()))
        .at(status.where());
  return status;
}

Status ArtifactWriter::commit() {
  SLUICE_RETURN_IF_ERROR(finishWeights());
  if (!thePlan)
    return internalError("an artifact without a plan cannot be written; call setPlan first");
  thePlan->set_major(kPlanMajor);
  thePlan->set_minor(kPlanMinor);
  thePlan->clear_weights_files();
  for (size_t i = 0; i < weights.size(); ++i) {
    proto::WeightsFile *record = thePlan->add_weights_files();
    record->set_file(weightsFileName(i));
    record->set_bytes(weights[i].fileBytes);
    record->set_data_start(weights[i].dataStart);
    record->set_chunk_bytes(kHashChunkBytes);
    for (const Sha256Digest &digest : weights[i].chunkSha256)
      record->add_chunk_sha256(bytesOf(digest));
    record->set_sha256(bytesOf(weights[i].sha256));
  }
  SLUICE_RETURN_IF_ERROR(validate());
  SLUICE_ASSIGN_OR_RETURN(std::string plan, serializePlan(*thePlan));
  SLUICE_RETURN_IF_ERROR(addFile(kPlanFile, plan));
  SLUICE_RETURN_IF_ERROR(writeFile(directory.file(kManifestFile), files.text()));
  return directory.commit();
}

} // namespace sluice
