//===- Manifest.h - SHA256SUMS, the list of an artifact's files -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// An artifact names every file it consists of with its SHA-256 in a text that `sha256sum -c` reads,
// so that a copy can be checked without Sluice. There is exactly one way to write a given list:
// lower-case digits, two spaces, ascending paths, one newline per line. A reader that accepts only
// that form notices every changed byte of the list itself.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_MANIFEST_H
#define SLUICE_RUNTIME_ARTIFACT_MANIFEST_H

#include "runtime/base/Sha256.h"
#include "sluice/status.h"

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// The names of the files every artifact has.
inline constexpr char kManifestFile[] = "SHA256SUMS";
inline constexpr char kPlanFile[] = "plan.pb";
inline constexpr char kReportFile[] = "report.json";

struct ManifestEntry {
  std::string path; ///< relative to the artifact, '/' between components
  Sha256Digest sha256{};
};

/// `text` in double quotes for a message: bytes outside printable ASCII are escaped and what
/// exceeds 120 bytes is cut, because names in a damaged artifact can be anything.
std::string quoteName(std::string_view text);

/// Ok when `path` may name a file of an artifact: relative, components of letters, digits and
/// "._-+=@", none of them "." or "..", at most 255 bytes. Such a path cannot leave the directory
/// and needs no escape in SHA256SUMS.
Status checkArtifactPath(std::string_view path);

/// A set of files with their digests, in the order of their paths. Not thread-safe.
class Manifest {
public:
  /// Reads SHA256SUMS; anything but the one accepted form is kDataCorrupt with its line number.
  static Result<Manifest> parse(std::string_view text);

  /// Adds a file; fails (kInvalidArgument) when the path is not acceptable or already there.
  Status add(std::string path, const Sha256Digest &digest);

  const ManifestEntry *find(std::string_view path) const;
  const std::vector<ManifestEntry> &entries() const { return list; }

  /// The content of SHA256SUMS.
  std::string text() const;

private:
  std::vector<ManifestEntry> list;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_MANIFEST_H
