//===- ChatTemplate.h - Messages to the text a model was trained on ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Chat models ship a Jinja template that turns a conversation into their prompt. This engine
// renders the part of Jinja that published templates use as transformers does: trim_blocks,
// lstrip_blocks, immutable containers, break and continue, {% generation %}, tojson,
// raise_exception, strftime_now. Whatever it does not know (a tag, a filter, a method) is an error
// with its place, never skipped.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_H
#define SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_H

#include "runtime/base/Json.h"
#include "sluice/status.h"

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

struct ChatRenderOptions {
  bool addGenerationPrompt = true;
  /// An object: further variables of the template ("enable_thinking", "tools"), which take
  /// precedence over the special tokens of the model.
  json::Value extra = {};
  /// The time that strftime_now tells, in the local zone; the current one when empty.
  std::optional<std::time_t> now = std::nullopt;
};

/// An immutable parsed template. Rendering is const and may happen in many threads at once.
class ChatTemplate {
public:
  /// Parses Jinja. Errors are kDataCorrupt, "<nameForErrors>: line L, column C: ...".
  static Result<ChatTemplate> parse(std::string_view text,
                                    std::string_view nameForErrors = "chat template");

  /// The template of a model directory: chat_template.jinja, or "chat_template" of
  /// tokenizer_config.json (of several, the one named "default"). The special tokens of
  /// tokenizer_config.json (bos_token, eos_token, ...) become variables. kNotFound when the model
  /// has no template.
  static Result<ChatTemplate> fromModel(const std::string &directory);

  /// Renders `messages`, an array of objects with at least "role" and "content". Errors:
  /// kInvalidArgument with the template's own message when it raises, kDataCorrupt when an
  /// expression fails, kResourceExhausted at the limits (2^28 bytes, 2^23 steps, nested calls) that
  /// make every template end.
  Result<std::string> render(const json::Value &messages,
                             const ChatRenderOptions &options = {}) const;

private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl(std::move(impl)) {}
  static Result<ChatTemplate> parseWith(std::string_view text, std::string_view name,
                                        json::Value specialTokens);
  std::shared_ptr<const Impl> impl;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_H
