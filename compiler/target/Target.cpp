//===- Target.cpp - Names and derived numbers of targets --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// "h100x8x4" is not a file of its own: a node is a chip with neighbours, a cluster nodes with links
// between them, and one description per chip keeps their constants in one place.
//
//===----------------------------------------------------------------------===//
#include "compiler/target/Target.h"

#include "compiler/target/EmbeddedTargets.h"
#include "runtime/base/Format.h"

#include <algorithm>
#include <charconv>
#include <unistd.h>

namespace sluice {

uint64_t machineMemoryBytes() {
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && size > 0 ? uint64_t(pages) * uint64_t(size) : 0;
}

uint64_t Target::bytesPerRank(int64_t ranks) const {
  if (!sharedByRanks)
    return usableBytes;
  int64_t ranksPerNode = std::min(ranks, maxDevicesPerNode);
  return usableBytes / uint64_t(std::max<int64_t>(ranksPerNode, 1));
}

double Target::peakFor(std::string_view weightFormat) const {
  std::string_view element = weightFormat.substr(0, weightFormat.find(':'));
  std::string_view type = element == "f8e4m3"                        ? "fp8"
                          : element == "i8"                          ? "int8"
                          : element == "mxfp4" || element == "nvfp4" ? "fp4"
                                                                     : element;
  auto find = [&](std::string_view wanted) {
    auto entry = std::find_if(peaks.begin(), peaks.end(),
                              [&](const auto &peak) { return peak.first == wanted; });
    return entry == peaks.end() ? 0.0 : entry->second;
  };
  // Narrow codes that the device cannot multiply are widened: fp4 to fp8 and then to bf16.
  if (double peak = find(type); peak > 0)
    return peak;
  if (double peak = find("fp8"); type == "fp4" && peak > 0)
    return peak;
  return find("bf16");
}

Result<Target> Target::forRanks(int64_t ranks) const {
  Target result = *this;
  if (countIsFixed) {
    if (ranks > devices())
      return invalidArgument(format("ranks = %lld exceeds the %lld devices of target %s; name a "
                                    "larger one, for example %sx%lld",
                                    (long long)ranks, (long long)devices(), name.c_str(),
                                    name.c_str(),
                                    (long long)((ranks + devices() - 1) / devices())));
    return result;
  }
  result.devicesPerNode = std::min(std::max<int64_t>(ranks, 1), maxDevicesPerNode);
  result.nodes = (ranks + result.devicesPerNode - 1) / result.devicesPerNode;
  return result;
}

std::vector<std::string> targetNames() {
  std::vector<std::string> names;
  for (const auto &[name, text] : embeddedTargets())
    names.emplace_back(name);
  return names;
}

std::vector<std::string> describeTargets() {
  std::vector<std::string> lines;
  for (const auto &[name, text] : embeddedTargets()) {
    Result<Target> target = parseTarget(text, std::string(name) + ".json");
    std::string line = target.isOk() ? target->title : target.status().toString();
    lines.push_back(format("%-12s %s", std::string(name).c_str(), line.c_str()));
  }
  lines.push_back("");
  lines.push_back("h100x8 is a node of eight, h100x8x4 or h100x32 are four such nodes;");
  lines.push_back("gb200-nvl72 is a whole rack, gb200-nvl72x2 are two");
  return lines;
}

Result<Target> findTarget(std::string_view name) {
  // The longest description that the name begins with: "gb200-nvl72x2" is two racks. Where a name
  // ends with an x, nobody writes a second one: "mi300x8" is eight.
  std::string_view base, text;
  size_t baseSize = 0;
  for (const auto &[candidate, description] : embeddedTargets()) {
    if (candidate.size() <= base.size() || name.substr(0, candidate.size()) != candidate)
      continue;
    std::string_view rest = name.substr(candidate.size());
    bool sharesX = !rest.empty() && candidate.back() == 'x' && rest[0] != 'x';
    if (rest.empty() || rest[0] == 'x' || sharesX) {
      base = candidate, text = description;
      baseSize = candidate.size() - (sharesX ? 1 : 0);
    }
  }
  auto unknown = [&](const std::string &reason) {
    std::string known;
    for (const std::string &entry : targetNames())
      known += (known.empty() ? "" : ", ") + entry;
    return invalidArgument("unknown target \"" + std::string(name) + "\"" + reason +
                           "; known are " + known +
                           ", and nodes of them such as h100x8 or h100x8x4");
  };
  if (base.empty())
    return unknown("");
  SLUICE_ASSIGN_OR_RETURN(Target target, parseTarget(text, std::string(base) + ".json"));
  target.name = std::string(name);
  if (target.sharedByRanks)
    target.usableBytes = machineMemoryBytes();

  std::vector<int64_t> counts;
  for (std::string_view rest = name.substr(baseSize); !rest.empty();) {
    int64_t count = 0;
    auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), count);
    if (rest[0] != 'x' || error != std::errc() || count < 1 || count > 1 << 16)
      return unknown(": a count of 1 to 65536 must follow each x");
    counts.push_back(count);
    rest = rest.substr(size_t(end - rest.data()));
  }
  bool isNode = target.devicesPerNode > 1;
  if (counts.empty())
    return target;
  if (counts.size() > (isNode ? 1u : 2u))
    return unknown(": too many counts");
  target.countIsFixed = true;
  if (isNode) {
    target.nodes = counts[0];
    return target;
  }
  if (counts[0] > target.maxDevicesPerNode) {
    // "h100x32" is what people say for four nodes of eight.
    if (counts.size() > 1 || counts[0] % target.maxDevicesPerNode != 0)
      return unknown(
          format(": a node has at most %lld devices", (long long)target.maxDevicesPerNode));
    target.nodes = counts[0] / target.maxDevicesPerNode;
    target.devicesPerNode = target.maxDevicesPerNode;
    return target;
  }
  target.devicesPerNode = counts[0];
  target.nodes = counts.size() > 1 ? counts[1] : 1;
  return target;
}

} // namespace sluice
