//===- ChatTemplate.cpp - Messages to the text a model was trained on -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The border of the engine: JSON becomes values here, and the engine's exceptions become Statuses.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplate.h"

#include "runtime/base/File.h"
#include "runtime/base/Format.h"
#include "runtime/text/ChatTemplateAst.h"
#include "runtime/text/ChatTemplateEvaluator.h"

namespace sluice {

using namespace text::chat;

struct ChatTemplate::Impl {
  std::string name;
  Block block;
  json::Value specialTokens = json::Value::object();

  Status error(const TemplateError &error) const {
    std::string message = name + ": ";
    if (error.line > 0)
      message += format("line %d, column %d: ", error.line, error.column);
    switch (error.kind) {
    case TemplateError::kRaised:
      return invalidArgument(message + "the template refuses this conversation: " + error.message);
    case TemplateError::kLimit:
      return resourceExhausted(message + error.message);
    case TemplateError::kSyntax:
    case TemplateError::kRuntime:
      break;
    }
    return dataCorrupt(message + error.message);
  }
};

Result<ChatTemplate> ChatTemplate::parse(std::string_view text, std::string_view name) {
  return parseWith(text, name, json::Value::object());
}

Result<ChatTemplate> ChatTemplate::parseWith(std::string_view text, std::string_view name,
                                             json::Value specialTokens) {
  auto result = std::make_shared<Impl>();
  result->name = name;
  result->specialTokens = std::move(specialTokens);
  if (!json::isValidUtf8(text))
    return dataCorrupt(result->name + ": the template is not UTF-8");
  try {
    result->block = parseTemplate(text);
  } catch (const TemplateError &error) {
    return result->error(error);
  }
  return ChatTemplate(std::move(result));
}

/// The special tokens that transformers gives to templates: strings, or objects with "content".
static Result<json::Value> specialTokensOf(const json::Cursor &config) {
  json::Value tokens = json::Value::object();
  for (const char *key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    if (!config.has(key))
      continue;
    SLUICE_ASSIGN_OR_RETURN(json::Cursor token, config.get(key));
    auto content = token.value().isObject() ? token.getString("content") : token.asString();
    if (!content.isOk())
      return content.status();
    tokens.set(key, *content);
  }
  return tokens;
}

Result<ChatTemplate> ChatTemplate::fromModel(const std::string &directory) {
  json::Value config = json::Value::object(), tokens = json::Value::object();
  std::string configPath = directory + "/tokenizer_config.json";
  auto parsed = json::parseFile(configPath);
  if (parsed.isOk())
    config = std::move(*parsed);
  else if (parsed.status().code() != StatusCode::kNotFound)
    return parsed.status();
  json::Cursor root(config, configPath);
  SLUICE_ASSIGN_OR_RETURN(tokens, specialTokensOf(root));

  std::string filePath = directory + "/chat_template.jinja";
  auto file = readFile(filePath);
  if (file.isOk())
    return parseWith(*file, filePath, std::move(tokens));
  if (file.status().code() != StatusCode::kNotFound)
    return file.status();
  if (!root.has("chat_template"))
    return notFound(directory + " has no chat template: neither chat_template.jinja nor the key "
                                "\"chat_template\" in tokenizer_config.json");
  SLUICE_ASSIGN_OR_RETURN(json::Cursor chat, root.get("chat_template"));
  std::string name = configPath + ": chat_template";
  if (!chat.value().isArray()) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, chat.asString());
    return parseWith(text, name, std::move(tokens));
  }
  for (size_t i = 0; i < chat.value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor entry, chat.element(i));
    SLUICE_ASSIGN_OR_RETURN(std::string kind, entry.getString("name"));
    SLUICE_ASSIGN_OR_RETURN(std::string text, entry.getString("template"));
    if (kind == "default")
      return parseWith(text, name, std::move(tokens));
  }
  return chat.error("none of the templates is named \"default\"");
}

Result<std::string> ChatTemplate::render(const json::Value &messages,
                                         const ChatRenderOptions &options) const {
  if (!messages.isArray())
    return invalidArgument("messages must be an array of objects, not of kind " +
                           std::string(json::kindName(messages.kind())));
  for (size_t i = 0; i < messages.size(); ++i)
    if (!(*messages.arrayIf())[i].isObject())
      return invalidArgument(
          format("message %zu must be an object with \"role\" and \"content\"", i));
  if (!options.extra.isNull() && !options.extra.isObject())
    return invalidArgument("extra variables must be an object");
  try {
    Scope variables;
    for (const json::Member &member : *impl->specialTokens.objectIf())
      variables.set(member.key, Value::fromJson(member.value));
    variables.set("messages", Value::fromJson(messages));
    variables.set("tools", Value());
    variables.set("documents", Value());
    variables.set("add_generation_prompt", Value(options.addGenerationPrompt));
    if (const json::Object *extra = options.extra.objectIf())
      for (const json::Member &member : *extra)
        variables.set(member.key, Value::fromJson(member.value));
    Evaluator evaluator(std::move(variables.names), options.now.value_or(std::time(nullptr)));
    return evaluator.render(impl->block);
  } catch (const TemplateError &error) {
    return impl->error(error);
  }
}

} // namespace sluice
