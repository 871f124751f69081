//===- ValidatorSupport.h - What the parts of the plan validator share ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Messages about values and limits, and the byte ranges that the parts of the validator compare.
// Internal to this folder. All arithmetic on sizes from a file is on uint64 with the bound tested
// before the sum.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_VALIDATORSUPPORT_H
#define SLUICE_RUNTIME_ARTIFACT_VALIDATORSUPPORT_H

#include "runtime/artifact/plan.pb.h"
#include "sluice/status.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::validation {

/// Bytes of a row of float32 in a collective, at most; the size of a matrix dimension.
inline constexpr uint64_t kMaxRowElements = uint64_t(1) << 30;
inline constexpr uint32_t kMaxStreams = 64;

inline std::string number(uint64_t value) { return std::to_string(value); }

inline Status outside(const std::string &what, uint64_t value, uint64_t low, uint64_t high) {
  return dataCorrupt(what + " is " + number(value) + ", outside [" + number(low) + ", " +
                     number(high) + "]");
}

inline Status checkRange(const std::string &what, uint64_t value, uint64_t low, uint64_t high) {
  return value < low || value > high ? outside(what, value, low, high) : Status::ok();
}

/// Whether [offset, offset + bytes) lies in [0, limit).
inline bool fits(uint64_t offset, uint64_t bytes, uint64_t limit) {
  return offset <= limit && bytes <= limit - offset;
}

/// A problem of the file is "corrupt data" whatever the helper that found it calls it, except what
/// is merely not known to this build.
inline Status asCorrupt(const Status &status) {
  if (status.isOk() || status.code() == StatusCode::kUnsupported)
    return status;
  return dataCorrupt(std::string(status.message()));
}

/// `kind` is one of the known ones.
inline const char *slabName(int kind) {
  constexpr const char *names[] = {"weights", "kv", "arena", "io"};
  return names[kind];
}

struct Range {
  int slab = -1; ///< index into the rank's slabs; -1 = none
  uint64_t offset = 0, bytes = 0;

  bool overlaps(const Range &other) const {
    return slab >= 0 && slab == other.slab && offset < other.offset + other.bytes &&
           other.offset < offset + bytes;
  }
  bool operator==(const Range &) const = default;
};

/// The checked slabs, weights and IO buffers of a rank, which its programs refer to.
struct RankLayout {
  std::vector<const proto::Slab *> slabs;
  int arena = -1, io = -1, kv = -1, weights = -1; ///< indices into slabs
  std::map<std::string, Range, std::less<>> ioBuffers;
  std::vector<Range> weightRanges; ///< by ascending offset

  /// Whether all of `range` lies in the IO buffer of that name.
  bool within(const Range &range, std::string_view ioBuffer) const {
    auto found = ioBuffers.find(ioBuffer);
    if (found == ioBuffers.end() || range.slab != found->second.slab)
      return false;
    return range.offset >= found->second.offset &&
           fits(range.offset - found->second.offset, range.bytes, found->second.bytes);
  }
};

} // namespace sluice::validation

#endif // SLUICE_RUNTIME_ARTIFACT_VALIDATORSUPPORT_H
