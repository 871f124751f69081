//===- AddedTokens.cpp - Tokens found in the text before everything else ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Matching is leftmost-longest without overlap. What a match swallows around it (lstrip, rstrip)
// and when it does not count (single_word) follows `tokenizers` (added_vocabulary.rs) to the
// letter.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/AddedTokens.h"

#include "runtime/base/Format.h"
#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

#include <algorithm>

namespace sluice::text {

void TokenTrie::insert(std::string_view text, uint32_t value) {
  firstBytes.set(static_cast<uint8_t>(text[0]));
  uint32_t node = 0;
  for (char byte : text) {
    uint64_t key = static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
    auto [it, inserted] = edges.emplace(key, static_cast<uint32_t>(values.size()));
    if (inserted)
      values.push_back(-1);
    node = it->second;
  }
  values[node] = value;
}

std::optional<TokenTrie::Match> TokenTrie::longestAt(std::string_view text, size_t pos) const {
  if (!firstBytes.test(static_cast<uint8_t>(text[pos])))
    return std::nullopt;
  std::optional<Match> best;
  uint32_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    auto it = edges.find(static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(text[i]));
    if (it == edges.end())
      break;
    node = it->second;
    if (values[node] >= 0)
      best = Match{i + 1, static_cast<uint32_t>(values[node])};
  }
  return best;
}

Result<AddedTokens> AddedTokens::fromJson(const json::Cursor &root, const BytePairModel &model,
                                          const Normalizer &normalizer) {
  AddedTokens result;
  if (!root.has("added_tokens"))
    return result;
  SLUICE_ASSIGN_OR_RETURN(json::Cursor list, root.getArray("added_tokens"));
  MatchScratch scratch;
  int64_t nextId = static_cast<int64_t>(model.size());
  for (size_t i = 0; i < list.value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor entry, list.element(i));
    AddedToken token;
    SLUICE_ASSIGN_OR_RETURN(int64_t declared, entry.getInt("id"));
    SLUICE_ASSIGN_OR_RETURN(token.content, entry.getString("content"));
    SLUICE_ASSIGN_OR_RETURN(token.singleWord, entry.getBool("single_word"));
    SLUICE_ASSIGN_OR_RETURN(token.lstrip, entry.getBool("lstrip"));
    SLUICE_ASSIGN_OR_RETURN(token.rstrip, entry.getBool("rstrip"));
    SLUICE_ASSIGN_OR_RETURN(token.normalized, entry.getBool("normalized"));
    SLUICE_ASSIGN_OR_RETURN(token.special, entry.getBool("special"));
    if (token.content.empty())
      continue;
    if (result.find(token.content))
      return entry.error("token \"" + token.content + "\" is listed twice");
    std::optional<int32_t> known = model.find(token.content);
    int64_t id = known ? *known : nextId++;
    if (id != declared || id > BytePairModel::kMaxId)
      return entry.error(format("id %lld of \"%s\" contradicts its place, which gives %lld",
                                static_cast<long long>(declared), token.content.c_str(),
                                static_cast<long long>(id)));
    token.id = static_cast<int32_t>(id);
    token.decoded = token.content;
    if (token.normalized) {
      SLUICE_ASSIGN_OR_RETURN(token.decoded, normalizer.apply(token.content, scratch));
    }
    uint32_t index = static_cast<uint32_t>(result.tokens.size());
    if (token.special)
      result.specials.emplace(token.content, true);
    result.byId[token.id] = index;
    result.byContent.emplace(token.content, index);
    if (!token.decoded.empty())
      (token.normalized ? result.normalized : result.raw).insert(token.decoded, index);
    result.tokens.push_back(std::move(token));
  }
  return result;
}

const AddedToken *AddedTokens::find(int32_t id) const {
  auto it = byId.find(id);
  return it == byId.end() ? nullptr : &tokens[it->second];
}

std::optional<int32_t> AddedTokens::find(std::string_view content) const {
  auto it = byContent.find(content);
  return it == byContent.end() ? std::nullopt : std::optional<int32_t>(tokens[it->second].id);
}

int32_t AddedTokens::maxId() const {
  int32_t most = -1;
  for (const AddedToken &token : tokens)
    most = std::max(most, token.id);
  return most;
}

void AddedTokens::findMatches(const TokenTrie &trie, std::string_view text,
                              std::vector<Piece> &parts) const {
  auto wordAt = [&](size_t pos) { return isWordCharacter(nextCodePoint(text, pos)); };
  size_t covered = 0;
  for (size_t pos = 0; pos < text.size();) {
    std::optional<TokenTrie::Match> match = trie.longestAt(text, pos);
    if (!match) {
      ++pos;
      continue;
    }
    const AddedToken &token = tokens[match->value];
    size_t start = pos, stop = match->end;
    pos = match->end;
    if (token.singleWord && ((start > 0 && wordAt(previousCodePoint(text, start))) ||
                             (stop < text.size() && wordAt(stop))))
      continue;
    if (token.lstrip) {
      while (start > covered) {
        size_t before = previousCodePoint(text, start), p = before;
        if (!isWhiteSpace(nextCodePoint(text, p)))
          break;
        start = before;
      }
      start = std::max(start, covered);
    }
    if (token.rstrip)
      for (size_t p = stop; p < text.size() && isWhiteSpace(nextCodePoint(text, p));)
        stop = p;
    if (covered < start)
      parts.push_back({covered, start, -1, false});
    parts.push_back({start, stop, token.id, false});
    covered = stop;
  }
  if (covered < text.size())
    parts.push_back({covered, text.size(), -1, false});
}

Status AddedTokens::extract(PieceList &pieces, const Normalizer &normalizer,
                            MatchScratch &scratch) const {
  if (!raw.empty())
    pieces.extract(
        [&](std::string_view text, std::vector<Piece> &parts) { findMatches(raw, text, parts); });
  if (!normalizer.empty())
    SLUICE_RETURN_IF_ERROR(pieces.rewrite([&](std::string_view text, bool, std::string &out) {
      SLUICE_ASSIGN_OR_RETURN(std::string normal, normalizer.apply(text, scratch));
      out += normal;
      return Status::ok();
    }));
  if (!normalized.empty())
    pieces.extract([&](std::string_view text, std::vector<Piece> &parts) {
      findMatches(normalized, text, parts);
    });
  return Status::ok();
}

} // namespace sluice::text
