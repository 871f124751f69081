//===- SplitPattern.h - Patterns that cut text ------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One interface over PCRE2 for split patterns and replacements, with the iteration rules of the
// reference (what happens after an empty match) and limits, since a pattern comes from a file.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_SPLIT_PATTERN_H
#define SLUICE_RUNTIME_TEXT_SPLIT_PATTERN_H

#include "sluice/status.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text {

/// A part of a subject, in bytes; the parts of one call cover it in order.
struct Span {
  size_t begin, end;
  bool isMatch;
};

/// What matching needs besides the pattern. One per thread and call; any pattern may use it.
class MatchScratch {
public:
  MatchScratch();
  MatchScratch(MatchScratch &&) noexcept;
  MatchScratch &operator=(MatchScratch &&) noexcept;
  ~MatchScratch();

private:
  friend class SplitPattern;
  struct Data;
  std::unique_ptr<Data> data;
};

/// An immutable compiled pattern; thread-safe.
class SplitPattern {
public:
  /// `pattern` in Oniguruma's Ruby syntax (see translateRegex).
  static Result<SplitPattern> regex(std::string_view pattern);
  /// Matches exactly `text`.
  static Result<SplitPattern> literal(std::string_view text);

  /// Cuts `subject` (valid UTF-8) into matches and what lies between them. kResourceExhausted when
  /// the pattern needs more steps or memory than the limits that grow linearly with the subject.
  Status findMatches(std::string_view subject, MatchScratch &scratch,
                     std::vector<Span> &spans) const;

private:
  struct Code;
  explicit SplitPattern(std::shared_ptr<const Code> code) : code(std::move(code)) {}
  static Result<SplitPattern> compile(std::string_view pattern, uint32_t options,
                                      std::string_view shown);
  std::shared_ptr<const Code> code;
};

/// What a split does with its matches (the delimiters), as `tokenizers` defines it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Rewrites `spans` to the parts that a split of this behaviour keeps; isMatch is meaningless then.
void applyBehavior(SplitBehavior behavior, std::vector<Span> &spans);

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_SPLIT_PATTERN_H
