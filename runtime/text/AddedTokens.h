//===- AddedTokens.h - Tokens found in the text before everything else ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Special tokens (chat markers, end of text) and other tokens added to a trained vocabulary are
// matched as whole strings: first those that must not be normalized, in the raw text, then the
// others, in the normalized pieces between.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_ADDED_TOKENS_H
#define SLUICE_RUNTIME_TEXT_ADDED_TOKENS_H

#include "runtime/base/Json.h"
#include "runtime/text/BytePairModel.h"
#include "runtime/text/Normalizer.h"
#include "runtime/text/PieceList.h"
#include "sluice/status.h"

#include <bitset>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace sluice::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  std::string decoded; ///< what decoding gives: the normal form of a normalized token
  bool singleWord = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

/// Finds the longest of many strings at a position.
class TokenTrie {
public:
  void insert(std::string_view text, uint32_t value);
  bool empty() const { return edges.empty(); }
  struct Match {
    size_t end;
    uint32_t value;
  };
  std::optional<Match> longestAt(std::string_view text, size_t pos) const;

private:
  std::unordered_map<uint64_t, uint32_t> edges; ///< node << 8 | byte -> node
  std::vector<int64_t> values{-1};              ///< by node
  std::bitset<256> firstBytes;
};

class AddedTokens {
public:
  /// From the array of the key, which may be missing. Ids follow the reference's rule: that of the
  /// vocabulary, or the next free one; a file that declares another id is kDataCorrupt.
  static Result<AddedTokens> fromJson(const json::Cursor &root, const BytePairModel &model,
                                      const Normalizer &normalizer);

  /// Runs both passes, with `normalizer` between them, over the whole text.
  Status extract(PieceList &pieces, const Normalizer &normalizer, MatchScratch &scratch) const;

  const AddedToken *find(int32_t id) const;
  std::optional<int32_t> find(std::string_view content) const;
  /// Whether decoding leaves out a token of this spelling.
  bool isSpecial(std::string_view token) const { return specials.contains(token); }
  int32_t maxId() const;

private:
  void findMatches(const TokenTrie &trie, std::string_view text, std::vector<Piece> &parts) const;

  std::vector<AddedToken> tokens;
  std::unordered_map<int32_t, uint32_t> byId;
  StringMap<uint32_t> byContent;
  StringMap<bool> specials;
  TokenTrie raw, normalized;
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_ADDED_TOKENS_H
