//===- Artifact.h - Open and verify an artifact directory -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The loader trusts nothing: the list of files is read strictly, every file it lists must have its
// size and hash, the plan must decode and validate. What an Artifact hands out has passed all of
// that, so its users need no checks of their own. Weights are mapped once and hashed through that
// mapping, chunk by chunk on several threads; the same pages then serve the kernels.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_ARTIFACT_H
#define SLUICE_RUNTIME_ARTIFACT_ARTIFACT_H

#include "runtime/artifact/KernelFamilies.h"
#include "runtime/artifact/Manifest.h"
#include "runtime/artifact/plan.pb.h"
#include "runtime/base/File.h"
#include "sluice/status.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct ArtifactOptions {
  /// Check the SHA-256 of every listed file. Without it only plan.pb and what readFile() returns
  /// are hashed; the plan is validated either way.
  bool verify = true;
  /// Threads that hash weights; 0 = one per hardware thread.
  unsigned threads = 0;
  /// The one rank whose weights are wanted: those of others are neither opened nor hashed, and need
  /// not be on this machine. -1 = all ranks.
  int rank = -1;
  /// When not 0: the number of processes, one per rank, that are about to run the plan; another
  /// number of ranks is kInvalidArgument.
  int processes = 0;
};

/// A verified artifact. Immutable, so it may be shared across threads.
class Artifact {
public:
  /// Opens the directory `path`. kNotFound when there is none or a listed file is missing,
  /// kDataCorrupt when anything differs from what was written, kVersionMismatch for a plan of a
  /// newer major version. Files that the list does not name are ignored.
  static Result<Artifact> open(const std::string &path, const ArtifactOptions &options = {});

  const std::string &path() const { return directory; }
  const Manifest &manifest() const { return files; }
  const proto::Plan &plan() const { return thePlan; }
  /// The parameters of the plan's kernels, by kernel index.
  const std::vector<abi::FamilyParams> &kernels() const { return kernelList; }

  /// The data section of a rank's weights file, mapped; the base of the rank's weights slab. The
  /// rank is one whose weights were asked for.
  std::span<const uint8_t> weightsData(size_t rank) const;
  /// Size of the weights file of such a rank.
  uint64_t weightsFileBytes(size_t rank) const { return weights[rank]->size(); }

  /// Whether the artifact lists `path`.
  bool has(std::string_view path) const { return files.find(path) != nullptr; }
  /// The content of a listed file of at most 1 GiB, its hash checked: kNotFound when the artifact
  /// does not list it.
  Result<std::string> readFile(std::string_view path) const;

private:
  Artifact() = default;
  Status readManifest();
  Status readPlan(int processes);
  Status mapWeights(int onlyRank);
  Status validate();
  Status verifyFiles(unsigned threads) const;
  Status verifyWeights(size_t rank, unsigned threads) const;
  std::string pathOf(std::string_view file) const;

  std::string directory;
  Manifest files;
  proto::Plan thePlan;
  std::vector<abi::FamilyParams> kernelList;
  std::vector<std::optional<MappedFile>> weights; ///< by rank; those that were asked for
};

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_ARTIFACT_H
