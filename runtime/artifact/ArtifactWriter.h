//===- ArtifactWriter.h - Write an artifact directory -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The compiler's end of the artifact. Weights are streamed, so memory does not grow with the model;
// hashes are taken while bytes are written, so nothing is read twice; and the directory appears
// under its name only when it is complete and its plan has passed the loader's own validation.
// Nothing that depends on time, host or thread count enters a file: equal inputs give equal bytes.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_ARTIFACTWRITER_H
#define SLUICE_RUNTIME_ARTIFACT_ARTIFACTWRITER_H

#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/Safetensors.h"
#include "runtime/artifact/plan.pb.h"
#include "runtime/base/File.h"
#include "sluice/status.h"

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// A tensor of a weights file, in the order of its file.
struct WeightDeclaration {
  std::string name;
  DataType dtype = DataType::kU8;
  std::vector<int64_t> shape;
};

/// "weights/rank-3.safetensors".
std::string weightsFileName(size_t rank);

/// A weights file being written: the declared tensors, in their order, each in pieces of any size.
class WeightsWriter {
public:
  /// Appends bytes to `name`, the first declared tensor that is not complete.
  Status append(std::string_view name, std::span<const uint8_t> bytes) {
    return writer.append(name, bytes);
  }
  /// Offset of each declared tensor in the data section: its Weight.offset in the plan.
  const std::vector<uint64_t> &offsets() const { return places; }
  /// Bytes of the data section: the size of the rank's weights slab.
  uint64_t dataBytes() const { return writer.dataBytes(); }

private:
  friend class ArtifactWriter;
  SafetensorsWriter writer;
  std::vector<uint64_t> places;
};

/// Writes one artifact: begin, then files, weights (ranks in order, one at a time) and the plan,
/// then commit. After an error, or without commit, the destination is what it was before. Not
/// thread-safe.
class ArtifactWriter {
public:
  /// Prepares to write `destination`, which must not exist, be empty, or be an older artifact.
  static Result<ArtifactWriter> begin(const std::string &destination);

  /// Writes a file, creating the folders of its path. plan.pb and weights have calls of their own.
  Status addFile(std::string_view path, std::string_view bytes);

  /// Begins the weights file of the next rank and finishes the one before. The result lives until
  /// the next call of weightsFile() or commit().
  Result<WeightsWriter *> weightsFile(std::span<const WeightDeclaration> declarations);

  /// Takes the plan. commit() fills its version and WeightsFile records; the rest is the caller's.
  void setPlan(proto::Plan plan) { thePlan = std::move(plan); }

  /// Validates the plan, writes plan.pb and SHA256SUMS, makes everything durable and moves the
  /// directory to its destination. An invalid plan is kInternal: the compiler made a mistake.
  Status commit();

private:
  explicit ArtifactWriter(AtomicDirectory directory) : directory(std::move(directory)) {}
  Status createParents(std::string_view path);
  Status finishWeights();
  Status validate();

  AtomicDirectory directory;
  Manifest files;
  std::set<std::string, std::less<>> folders;
  std::unique_ptr<WeightsWriter> current;
  std::vector<SafetensorsSummary> weights; ///< by rank, finished ones
  std::optional<proto::Plan> thePlan;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_ARTIFACTWRITER_H
