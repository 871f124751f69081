//===- Decoder.h - The "decoder" of a tokenizer.json ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Decoding is written once, as a stream: every step takes tokens one by one and passes on what has
// become certain. Decoding a whole sequence is a stream that is finished at once, so the two cannot
// disagree.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_DECODER_H
#define SLUICE_RUNTIME_TEXT_DECODER_H

#include "runtime/base/Json.h"
#include "sluice/status.h"

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice::text {

class Decoder {
public:
  /// From the value of the key; null joins tokens with spaces. kUnsupported names a type that is
  /// not implemented.
  static Result<Decoder> fromJson(const json::Cursor &decoder);

  /// The state of one sequence. Borrows the decoder.
  class Stream {
  public:
    /// `eager` lets characters of a run of byte tokens pass as soon as they are complete; otherwise
    /// the whole run decides, as in the reference.
    Stream(const Decoder &decoder, bool eager);
    /// Takes a token (valid UTF-8) and appends to `out` what is certain now.
    void push(std::string_view token, std::string &out);
    /// Appends the rest. The stream is fresh afterwards.
    void finish(std::string &out);

  private:
    friend class Decoder;
    struct State {
      std::string pending;
      size_t count = 0;
      bool begun = false, illFormed = false;
    };
    void pass(size_t step, std::string_view token, std::string &out);
    void byteFallback(size_t step, std::string_view token, std::string &out);
    void endByteRun(size_t step, std::string &out);
    const Decoder *decoder;
    bool eager;
    std::vector<State> states;
  };

  struct ByteLevel {};
  struct ByteFallback {};
  struct Fuse {};
  struct Join {};
  struct Replace {
    std::string pattern, content;
  };
  struct Strip {
    std::string content; ///< one character
    size_t start, stop;
  };
  struct Metaspace {
    std::string replacement; ///< one character
    bool dropFirst;          ///< the first token loses its markers
  };

private:
  struct Step {
    std::variant<ByteLevel, ByteFallback, Fuse, Join, Replace, Strip, Metaspace> kind;
    /// The tokens that arrive are parts of one string, because an earlier step has fused them.
    bool fused;
  };
  Status append(const json::Cursor &decoder, int depth);
  void add(decltype(Step::kind) kind);
  std::vector<Step> steps;
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_DECODER_H
