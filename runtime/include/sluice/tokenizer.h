//===- tokenizer.h - Text to token ids and back -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Reads Hugging Face's tokenizer.json (byte pair encoding, byte-level or with byte fallback) and
// gives the same ids as Hugging Face `tokenizers`. Whatever of a file would change the ids and is
// not implemented is refused by its exact name when the file is loaded.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TOKENIZER_H
#define SLUICE_TOKENIZER_H

#include "sluice/status.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct DecodeOptions {
  /// Leave special tokens (end of text, chat markers) out of the text.
  bool skipSpecialTokens = true;
};

/// An immutable tokenizer. Every const member may be called from many threads at once; copies share
/// one state.
class Tokenizer {
public:
  /// Loads `path`, a tokenizer.json. Errors name the file and the key: kNotFound and kIo for the
  /// file, kDataCorrupt for content that contradicts itself, kUnsupported for a component that is
  /// understood but not implemented.
  static Result<Tokenizer> fromFile(const std::string &path);
  /// The same from the content of a file; `nameForErrors` stands for its path.
  static Result<Tokenizer> fromJson(std::string_view json, std::string_view nameForErrors);

  /// The ids of `text`. `addSpecial` adds what the file's post-processor adds (a leading <s>, ...);
  /// special tokens written in the text are found in either case. Bytes that are not UTF-8 are
  /// replaced by U+FFFD first, one per maximal ill-formed part, as Python's errors="replace" does.
  /// Time is O(n log n) in the length of the text. Fails with kResourceExhausted when a pattern of
  /// the file exceeds its matching limit, and with kInvalidArgument when the vocabulary lacks the
  /// unknown token that the text needs.
  Result<std::vector<int32_t>> encode(std::string_view text, bool addSpecial = true) const;

  /// The text of `ids`, always valid UTF-8: bytes that form no character become U+FFFD. An id that
  /// is negative or not below vocabSize() is kInvalidArgument; an id within that no token has gives
  /// nothing.
  Result<std::string> decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  /// One more than the largest id, added tokens included.
  int32_t vocabSize() const;
  /// The token as the vocabulary spells it (byte-level tokens in their printable form); kNotFound
  /// for an id without a token.
  Result<std::string> tokenString(int32_t id) const;
  /// The id of a token in that spelling.
  std::optional<int32_t> tokenId(std::string_view token) const;
  /// Whether `id` is one that DecodeOptions::skipSpecialTokens leaves out.
  bool isSpecial(int32_t id) const;

  struct Impl;

private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl(std::move(impl)) {}
  std::shared_ptr<const Impl> impl;
};

/// Decodes tokens one by one. What push() has returned so far plus flush() is what
/// Tokenizer::decode() gives for all ids at once, except where byte-fallback tokens are ill-formed:
/// decode() then replaces every byte of the run, while a stream has already given the characters
/// that were complete. Never returns a part of a code point. Keeps the tokenizer's state alive. Not
/// thread-safe.
class StreamDecoder {
public:
  explicit StreamDecoder(const Tokenizer &tokenizer, DecodeOptions options = {});
  StreamDecoder(StreamDecoder &&) noexcept;
  StreamDecoder &operator=(StreamDecoder &&) noexcept;
  ~StreamDecoder();

  /// The text that has become certain with this token; often empty. Errors as decode().
  Result<std::string> push(int32_t id);
  /// The rest, with incomplete characters as U+FFFD. The decoder then starts afresh.
  std::string flush();

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace sluice

#endif // SLUICE_TOKENIZER_H
