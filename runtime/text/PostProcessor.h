//===- PostProcessor.h - The "post_processor" of a tokenizer.json -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// For ids, all that post-processors do is put special tokens around the sequence.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_POST_PROCESSOR_H
#define SLUICE_RUNTIME_TEXT_POST_PROCESSOR_H

#include "runtime/base/Json.h"
#include "sluice/status.h"

#include <cstdint>
#include <vector>

namespace sluice::text {

class PostProcessor {
public:
  /// From the value of the key, null for none. kUnsupported names a type that is not implemented.
  static Result<PostProcessor> fromJson(const json::Cursor &postProcessor);

  /// Puts the special tokens around `ids`, or only the template's order when `addSpecial` is false.
  std::vector<int32_t> apply(std::vector<int32_t> ids, bool addSpecial) const;

private:
  struct Part {
    bool isSequence;
    std::vector<int32_t> ids; ///< of a special token
  };
  Status append(const json::Cursor &postProcessor, int depth);
  Status readTemplate(const json::Cursor &postProcessor);
  std::vector<Part> parts; ///< empty: the sequence alone
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_POST_PROCESSOR_H
