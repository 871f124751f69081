//===- Manifest.cpp - SHA256SUMS, the list of an artifact's files -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Reading and writing the strict subset of the sha256sum format that Manifest.h describes.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Manifest.h"

#include <algorithm>

namespace sluice {
namespace {

constexpr size_t kMaxPathBytes = 255;
constexpr size_t kHexBytes = 64;

bool isPathCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._-+=@").find(c) != std::string_view::npos;
}

auto lowerBound(const std::vector<ManifestEntry> &list, std::string_view path) {
  return std::lower_bound(
      list.begin(), list.end(), path,
      [](const ManifestEntry &entry, std::string_view key) { return entry.path < key; });
}

} // namespace

std::string quoteName(std::string_view text) {
  constexpr size_t kShown = 120;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text.substr(0, kShown)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\') {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + (text.size() > kShown ? "...\"" : "\"");
}

Status checkArtifactPath(std::string_view path) {
  auto refuse = [&](const std::string &why) {
    return invalidArgument("path " + quoteName(path) + " " + why +
                           "; files of an artifact have relative paths of letters, digits and "
                           "._-+=@");
  };
  if (path.empty() || path.size() > kMaxPathBytes)
    return refuse("has " + std::to_string(path.size()) + " bytes, outside [1, 255]");
  size_t begin = 0;
  while (begin <= path.size()) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string_view component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..")
      return refuse("has an empty, \".\" or \"..\" component");
    if (!std::all_of(component.begin(), component.end(), isPathCharacter))
      return refuse("has a character that is not allowed");
    begin = end + 1;
  }
  return Status::ok();
}

Result<Manifest> Manifest::parse(std::string_view text) {
  Manifest out;
  size_t number = 0;
  while (!text.empty()) {
    ++number;
    auto corrupt = [&](const std::string &why) {
      return dataCorrupt(std::string(kManifestFile) + ": line " + std::to_string(number) + " " +
                         why);
    };
    size_t end = text.find('\n');
    if (end == std::string_view::npos)
      return corrupt("has no newline at its end; the file is truncated or damaged");
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);

    std::string_view hex = line.substr(0, kHexBytes);
    bool lower = std::none_of(hex.begin(), hex.end(), [](char c) { return c >= 'A' && c <= 'F'; });
    std::optional<Sha256Digest> digest = digestFromHex(hex);
    if (!digest || !lower)
      return corrupt("does not begin with 64 lower-case hexadecimal digits");
    if (line.substr(kHexBytes, 2) != "  ")
      return corrupt("does not have two spaces between digest and path");
    std::string_view path = line.substr(kHexBytes + 2);
    if (Status status = checkArtifactPath(path); !status.isOk())
      return corrupt("is not acceptable: " + std::string(status.message()));
    if (path == kManifestFile)
      return corrupt("lists SHA256SUMS itself");
    if (!out.list.empty() && out.list.back().path >= path)
      return corrupt("names " + quoteName(path) + " after " + quoteName(out.list.back().path) +
                     "; paths must ascend");
    out.list.push_back({std::string(path), *digest});
  }
  if (out.list.empty())
    return dataCorrupt(std::string(kManifestFile) + ": lists no file");
  return out;
}

Status Manifest::add(std::string path, const Sha256Digest &digest) {
  SLUICE_RETURN_IF_ERROR(checkArtifactPath(path));
  if (path == kManifestFile)
    return invalidArgument("SHA256SUMS is written on commit and cannot be added");
  auto at = lowerBound(list, path);
  if (at != list.end() && at->path == path)
    return invalidArgument("file " + quoteName(path) + " was added twice");
  list.insert(at, {std::move(path), digest});
  return Status::ok();
}

const ManifestEntry *Manifest::find(std::string_view path) const {
  auto at = lowerBound(list, path);
  return at != list.end() && at->path == path ? &*at : nullptr;
}

std::string Manifest::text() const {
  std::string out;
  for (const ManifestEntry &entry : list)
    out += toHex(entry.sha256) + "  " + entry.path + "\n";
  return out;
}

} // namespace sluice
