//===- PreTokenizer.h - The "pre_tokenizer" of a tokenizer.json -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Cuts text into the words that the model merges within.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_PRE_TOKENIZER_H
#define SLUICE_RUNTIME_TEXT_PRE_TOKENIZER_H

#include "runtime/base/Json.h"
#include "runtime/text/PieceList.h"
#include "runtime/text/SplitPattern.h"
#include "sluice/status.h"

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace sluice::text {

class PreTokenizer {
public:
  /// From the value of the key, null for none. kUnsupported names a type that is not implemented.
  static Result<PreTokenizer> fromJson(const json::Cursor &preTokenizer);

  /// Cuts and rewrites the open pieces of `pieces`.
  Status apply(PieceList &pieces, MatchScratch &scratch) const;

  struct Split {
    SplitPattern pattern;
    SplitBehavior behavior;
    bool invert;
  };
  struct ByteLevel {
    bool addPrefixSpace;
    std::optional<SplitPattern> pattern; ///< GPT-2's, unless the file turns it off
  };
  enum class PrependScheme { kFirst, kNever, kAlways };
  struct Metaspace {
    std::string replacement; ///< one character
    PrependScheme scheme;
    bool split;
  };
  struct Digits {
    bool individual;
  };
  struct Whitespace {};
  struct WhitespaceSplit {};

private:
  using Step = std::variant<Split, ByteLevel, Metaspace, Digits, Whitespace, WhitespaceSplit>;
  Status append(const json::Cursor &preTokenizer, int depth);
  std::vector<Step> steps;
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_PRE_TOKENIZER_H
