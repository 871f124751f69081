//===- BytePairModel.h - Byte pair encoding ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The model of a tokenizer.json: a vocabulary and ranked merges. The merging of a word is the
// greedy one of the reference (lowest rank first, leftmost first), with a heap, so that a word may
// be a whole book: SentencePiece-style tokenizers have no pre-tokenizer.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_BYTE_PAIR_MODEL_H
#define SLUICE_RUNTIME_TEXT_BYTE_PAIR_MODEL_H

#include "runtime/base/Json.h"
#include "sluice/status.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice::text {

/// Lookup of strings by view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <typename T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

/// From pairs of token ids to what they merge into; open addressing, since encoding spends most of
/// its time here.
class PairTable {
public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  void reserve(size_t pairs);
  /// A later merge of the same pair replaces an earlier one.
  void insert(int32_t left, int32_t right, Merge merge);
  const Merge *find(int32_t left, int32_t right) const;

private:
  struct Slot {
    uint64_t key;
    Merge merge;
  };
  size_t place(uint64_t key) const;
  std::vector<Slot> slots;
};

/// Immutable; thread-safe.
class BytePairModel {
public:
  /// The largest id a vocabulary may hold; ids index arrays.
  static constexpr int64_t kMaxId = (1 << 24) - 1;

  static Result<BytePairModel> fromJson(const json::Cursor &model);

  /// Words that were merged during one call of encode, so that frequent ones are merged once. Its
  /// keys borrow the words.
  class Cache {
  public:
    static constexpr size_t kMaxWords = 1 << 14;
    static constexpr size_t kMaxWordBytes = 64;

  private:
    friend class BytePairModel;
    struct Range {
      size_t begin, size;
    };
    std::unordered_map<std::string_view, Range> words;
    std::vector<int32_t> ids;
  };

  /// Appends the ids of `word`, non-empty valid UTF-8 that outlives `cache`.
  Status encode(std::string_view word, Cache &cache, std::vector<int32_t> &ids) const;

  std::optional<int32_t> find(std::string_view token) const;
  /// The token of an id, null for none.
  const std::string *token(int32_t id) const;
  /// Number of tokens, which is what the ids of added tokens continue from.
  size_t size() const { return vocabulary.size(); }
  int32_t maxId() const { return static_cast<int32_t>(tokens.size()) - 1; }

private:
  Status readVocabulary(const json::Cursor &model);
  Status readMerges(const json::Cursor &model);
  Status merge(std::string_view word, std::vector<int32_t> &ids) const;

  StringMap<int32_t> vocabulary;
  std::vector<const std::string *> tokens; ///< by id; keys of `vocabulary`
  PairTable merges;
  std::string unknownToken, subwordPrefix, wordSuffix;
  bool hasUnknown = false, fuseUnknown = false, ignoreMerges = false;
  std::optional<std::array<int32_t, 256>> byteTokens; ///< -1 where there is none
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_BYTE_PAIR_MODEL_H
