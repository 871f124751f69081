//===- BytePairModel.cpp - Byte pair encoding -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Symbols of a word are a doubly linked list in an array, candidates a heap by (rank, position);
// a candidate that no longer describes its pair is dropped when it surfaces. This is the algorithm
// of `tokenizers` (models/bpe/word.rs), whose treatment of ties and of unknown characters is part
// of what the ids are.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/BytePairModel.h"

#include "runtime/base/Format.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <queue>

namespace sluice::text {
namespace {

constexpr uint64_t kEmpty = UINT64_MAX;

uint64_t pairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

struct Symbol {
  int32_t id;
  int32_t previous, next; // indices, -1 at the ends
  bool removed = false;
};

struct Candidate {
  uint32_t rank;
  uint32_t position;
  int32_t id;
  bool operator<(const Candidate &other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

} // namespace

size_t PairTable::place(uint64_t key) const {
  size_t mask = slots.size() - 1;
  uint64_t hash = key * 0x9E3779B97F4A7C15u;
  size_t i = (hash ^ hash >> 32) & mask;
  while (slots[i].key != kEmpty && slots[i].key != key)
    i = (i + 1) & mask;
  return i;
}

void PairTable::reserve(size_t pairs) {
  size_t size = 16;
  while (size < 2 * pairs)
    size *= 2;
  slots.assign(size, {kEmpty, {}});
}

void PairTable::insert(int32_t left, int32_t right, Merge merge) {
  uint64_t key = pairKey(left, right);
  slots[place(key)] = {key, merge};
}

const PairTable::Merge *PairTable::find(int32_t left, int32_t right) const {
  uint64_t key = pairKey(left, right);
  const Slot &slot = slots[place(key)];
  return slot.key == key ? &slot.merge : nullptr;
}

Result<BytePairModel> BytePairModel::fromJson(const json::Cursor &model) {
  BytePairModel result;
  SLUICE_ASSIGN_OR_RETURN(std::string type, model.getStringOr("type", "BPE"));
  if (type != "BPE")
    return unsupported(model.document() + ": key \"" + model.path() + ".type\": model \"" + type +
                       "\" is not supported; supported is BPE");
  SLUICE_ASSIGN_OR_RETURN(double dropout, model.getDoubleOr("dropout", 0));
  if (dropout != 0)
    return unsupported(model.document() + ": key \"" + model.path() +
                       ".dropout\": " + format("%g", dropout) +
                       " makes tokens random, which is for training; set it to null");
  result.hasUnknown = model.has("unk_token");
  SLUICE_ASSIGN_OR_RETURN(result.unknownToken, model.getStringOr("unk_token", ""));
  SLUICE_ASSIGN_OR_RETURN(result.subwordPrefix, model.getStringOr("continuing_subword_prefix", ""));
  SLUICE_ASSIGN_OR_RETURN(result.wordSuffix, model.getStringOr("end_of_word_suffix", ""));
  SLUICE_ASSIGN_OR_RETURN(result.fuseUnknown, model.getBoolOr("fuse_unk", false));
  SLUICE_ASSIGN_OR_RETURN(result.ignoreMerges, model.getBoolOr("ignore_merges", false));
  SLUICE_ASSIGN_OR_RETURN(bool byteFallback, model.getBoolOr("byte_fallback", false));
  SLUICE_RETURN_IF_ERROR(result.readVocabulary(model));
  SLUICE_RETURN_IF_ERROR(result.readMerges(model));
  if (byteFallback) {
    result.byteTokens.emplace();
    for (unsigned byte = 0; byte < 256; ++byte)
      (*result.byteTokens)[byte] = result.find(format("<0x%02X>", byte)).value_or(-1);
  }
  return result;
}

Status BytePairModel::readVocabulary(const json::Cursor &model) {
  SLUICE_ASSIGN_OR_RETURN(json::Cursor vocab, model.getObject("vocab"));
  const json::Object &object = *vocab.value().objectIf();
  vocabulary.reserve(object.size());
  for (const json::Member &member : object) {
    auto id = member.value.asInt();
    if (!id.isOk())
      return vocab.error("token \"" + member.key + "\": " + std::string(id.status().message()));
    if (*id < 0 || *id > kMaxId)
      return vocab.error(format("token \"%s\": id %lld is outside 0 to %lld", member.key.c_str(),
                                static_cast<long long>(*id), static_cast<long long>(kMaxId)));
    size_t index = static_cast<size_t>(*id);
    auto [it, inserted] = vocabulary.emplace(member.key, static_cast<int32_t>(*id));
    if (index >= tokens.size())
      tokens.resize(std::max(index + 1, std::min(object.size(), size_t(kMaxId + 1))), nullptr);
    if (!inserted || tokens[index])
      return vocab.error(format("tokens \"%s\" and \"%s\" share the id %lld",
                                tokens[index] ? tokens[index]->c_str() : "", member.key.c_str(),
                                static_cast<long long>(*id)));
    tokens[index] = &it->first;
  }
  while (!tokens.empty() && !tokens.back())
    tokens.pop_back();
  return Status::ok();
}

Status BytePairModel::readMerges(const json::Cursor &model) {
  SLUICE_ASSIGN_OR_RETURN(json::Cursor list, model.getArray("merges"));
  const json::Array &array = *list.value().arrayIf();
  merges.reserve(array.size());
  uint32_t rank = 0;
  std::string merged;
  for (size_t i = 0; i < array.size(); ++i) {
    auto fail = [&](const std::string &what) {
      return list.error("merge " + std::to_string(i) + ": " + what);
    };
    std::string_view left, right;
    if (const std::string *line = array[i].stringIf()) {
      if (line->starts_with("#version"))
        continue;
      size_t space = line->find(' ');
      if (space == std::string::npos || line->find(' ', space + 1) != std::string::npos)
        return fail("\"" + *line + "\" is not two tokens with one space between them");
      left = std::string_view(*line).substr(0, space);
      right = std::string_view(*line).substr(space + 1);
    } else {
      const json::Array *pair = array[i].arrayIf();
      if (!pair || pair->size() != 2 || !(*pair)[0].isString() || !(*pair)[1].isString())
        return fail("expected a string or a pair of strings");
      left = *(*pair)[0].stringIf();
      right = *(*pair)[1].stringIf();
    }
    if (right.size() < subwordPrefix.size())
      return fail("\"" + std::string(right) + "\" lacks the prefix \"" + subwordPrefix + "\"");
    merged = left;
    merged += right.substr(subwordPrefix.size());
    int32_t ids[3];
    const std::string_view names[3] = {left, right, merged};
    for (int j = 0; j < 3; ++j) {
      std::optional<int32_t> id = find(names[j]);
      if (!id)
        return fail("token \"" + std::string(names[j]) + "\" is not in the vocabulary");
      ids[j] = *id;
    }
    merges.insert(ids[0], ids[1], {rank++, ids[2]});
  }
  return Status::ok();
}

std::optional<int32_t> BytePairModel::find(std::string_view token) const {
  auto it = vocabulary.find(token);
  return it == vocabulary.end() ? std::nullopt : std::optional<int32_t>(it->second);
}

const std::string *BytePairModel::token(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < tokens.size() ? tokens[static_cast<size_t>(id)]
                                                            : nullptr;
}

Status BytePairModel::encode(std::string_view word, Cache &cache, std::vector<int32_t> &ids) const {
  if (ignoreMerges)
    if (std::optional<int32_t> id = find(word)) {
      ids.push_back(*id);
      return Status::ok();
    }
  if (word.size() > Cache::kMaxWordBytes)
    return merge(word, ids);
  if (auto it = cache.words.find(word); it != cache.words.end()) {
    auto begin = cache.ids.begin() + static_cast<ptrdiff_t>(it->second.begin);
    ids.insert(ids.end(), begin, begin + static_cast<ptrdiff_t>(it->second.size));
    return Status::ok();
  }
  size_t start = ids.size();
  SLUICE_RETURN_IF_ERROR(merge(word, ids));
  if (cache.words.size() < Cache::kMaxWords) {
    cache.words.emplace(word, Cache::Range{cache.ids.size(), ids.size() - start});
    cache.ids.insert(cache.ids.end(), ids.begin() + static_cast<ptrdiff_t>(start), ids.end());
  }
  return Status::ok();
}

Status BytePairModel::merge(std::string_view word, std::vector<int32_t> &ids) const {
  if (word.size() > INT32_MAX)
    return resourceExhausted(format("a word of %zu bytes exceeds the limit of %d bytes; split the "
                                    "text",
                                    word.size(), INT32_MAX));
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  auto add = [&](int32_t id) {
    int32_t index = static_cast<int32_t>(symbols.size());
    if (index > 0)
      symbols.back().next = index;
    symbols.push_back({id, index - 1, -1});
  };

  // Unknown characters wait, so that a run of them can become one token. As in the reference, byte
  // tokens pass such a waiting token.
  int32_t waiting = -1;
  std::string spelled;
  for (size_t pos = 0; pos < word.size();) {
    size_t size = codePointSize(word[pos]);
    std::string_view character = word.substr(pos, size);
    bool first = pos == 0, last = pos + size == word.size();
    pos += size;
    if ((!first && !subwordPrefix.empty()) || (last && !wordSuffix.empty())) {
      spelled = (first ? "" : subwordPrefix) + std::string(character) + (last ? wordSuffix : "");
      character = spelled;
    }
    if (std::optional<int32_t> id = find(character)) {
      if (waiting >= 0)
        add(std::exchange(waiting, -1));
      add(*id);
      continue;
    }
    if (byteTokens) {
      auto byteToken = [&](char byte) { return (*byteTokens)[static_cast<uint8_t>(byte)]; };
      if (std::all_of(character.begin(), character.end(),
                      [&](char b) { return byteToken(b) >= 0; })) {
        for (char byte : character)
          add(byteToken(byte));
        continue;
      }
    }
    if (!hasUnknown)
      continue; // the reference drops what it has no token for
    std::optional<int32_t> unknown = find(unknownToken);
    if (!unknown)
      return invalidArgument("the text needs the unknown token \"" + unknownToken +
                             "\", which is not in the vocabulary");
    if (waiting >= 0 && !fuseUnknown)
      add(waiting);
    waiting = *unknown;
  }
  if (waiting >= 0)
    add(waiting);

  std::vector<Candidate> initial;
  initial.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const PairTable::Merge *m = merges.find(symbols[i].id, symbols[i + 1].id))
      initial.push_back({m->rank, static_cast<uint32_t>(i), m->id});
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(initial));
  auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0)
      return;
    if (const PairTable::Merge *m = merges.find(symbols[static_cast<size_t>(left)].id,
                                                symbols[static_cast<size_t>(right)].id))
      queue.push({m->rank, static_cast<uint32_t>(left), m->id});
  };
  while (!queue.empty()) {
    Candidate top = queue.top();
    queue.pop();
    Symbol &left = symbols[top.position];
    if (left.removed || left.next < 0)
      continue;
    Symbol &right = symbols[static_cast<size_t>(left.next)];
    const PairTable::Merge *current = merges.find(left.id, right.id);
    if (!current || current->id != top.id)
      continue;
    left.id = top.id;
    left.next = right.next;
    right.removed = true;
    if (left.next >= 0)
      symbols[static_cast<size_t>(left.next)].previous = static_cast<int32_t>(top.position);
    consider(left.previous, static_cast<int32_t>(top.position));
    consider(static_cast<int32_t>(top.position), left.next);
  }
  for (const Symbol &symbol : symbols)
    if (!symbol.removed)
      ids.push_back(symbol.id);
  return Status::ok();
}

} // namespace sluice::text
