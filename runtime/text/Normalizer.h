//===- Normalizer.h - The "normalizer" of a tokenizer.json ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A normalizer is a list of steps on a string. They are few and closed, so a step is a variant over
// plain structs rather than a class hierarchy.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_NORMALIZER_H
#define SLUICE_RUNTIME_TEXT_NORMALIZER_H

#include "runtime/base/Json.h"
#include "runtime/text/SplitPattern.h"
#include "sluice/status.h"

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice::text {

enum class UnicodeForm { kNFC, kNFD, kNFKC, kNFKD };

/// Unicode normalization as `tokenizers` performs it: with the tables of Unicode 9, for which later
/// combining marks are ordinary characters.
Result<std::string> normalizeUnicode(std::string_view text, UnicodeForm form);

class Normalizer {
public:
  /// From the value of the key, null for none. kUnsupported names a type that is not implemented.
  static Result<Normalizer> fromJson(const json::Cursor &normalizer);

  bool empty() const { return steps.empty(); }
  /// The normal form of valid UTF-8.
  Result<std::string> apply(std::string_view text, MatchScratch &scratch) const;

  struct Lowercase {};
  struct Replace {
    SplitPattern pattern;
    std::string content;
  };
  struct Prepend {
    std::string text;
  };
  struct Strip {
    bool left, right;
  };

private:
  using Step = std::variant<UnicodeForm, Lowercase, Replace, Prepend, Strip>;
  Status append(const json::Cursor &normalizer, int depth);
  std::vector<Step> steps;
};

/// The pattern of a Split or Replace: {"String": s} or {"Regex": s} under the key "pattern".
Result<SplitPattern> patternFromJson(const json::Cursor &component);

/// The error for a component whose "type" is not implemented, with those that are.
Status unsupportedType(const json::Cursor &component, std::string_view type,
                       std::string_view supported);

/// How deep Sequences may nest.
inline constexpr int kMaxSequenceDepth = 16;

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_NORMALIZER_H
