//===- RegexTranslator.h - Oniguruma's syntax to PCRE2's --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The patterns of tokenizer.json are written for Oniguruma (Ruby syntax). Most of that reads the
// same in PCRE2, but not all: `\s` differs in U+180E, `\h` is a hexadecimal digit, `{1,3}+` repeats
// instead of being possessive, `&&` intersects classes, classes nest, script names mean Script and
// not Script_Extensions, and the Unicode versions differ. A silent difference would give other ids
// than the model was trained with, so every construct is either rewritten or refused by name.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_REGEX_TRANSLATOR_H
#define SLUICE_RUNTIME_TEXT_REGEX_TRANSLATOR_H

#include "sluice/status.h"

#include <string>
#include <string_view>

namespace sluice::text {

/// The PCRE2 pattern (for UTF and UCP) that matches what `pattern` matches in Oniguruma's Ruby
/// syntax. Groups do not capture. Errors quote the construct and its byte offset: kDataCorrupt for
/// a malformed pattern, kUnsupported for what is not translated (backreferences, anchors on words,
/// conditionals, scripts beyond those of the published models).
Result<std::string> translateRegex(std::string_view pattern);

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_REGEX_TRANSLATOR_H
