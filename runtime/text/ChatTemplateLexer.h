//===- ChatTemplateLexer.h - The tokens of a chat template ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Splits a Jinja source into literal text and the tokens inside of tags, with the white space
// control that transformers configures: trim_blocks, lstrip_blocks, no kept trailing newline.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_LEXER_H
#define SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_LEXER_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text::chat {

struct Token {
  enum Kind {
    kText,       ///< between tags
    kPrintBegin, ///< {{
    kPrintEnd,   ///< }}
    kBlockBegin, ///< {%
    kBlockEnd,   ///< %}
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  } kind;
  std::string text; ///< the name, operator or content of the string
  int64_t integer = 0;
  double real = 0;
  int line = 1, column = 1;
};

/// The tokens of `source` (valid UTF-8), closed by a kEnd. Throws TemplateError.
std::vector<Token> lex(std::string_view source);

} // namespace sluice::text::chat

#endif // SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_LEXER_H
