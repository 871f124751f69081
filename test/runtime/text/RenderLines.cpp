//===- RenderLines.cpp - Renders chat templates from JSON lines -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The counterpart of make_chat_vectors.py --check: reads one case per line and prints its text or
// its error as JSON.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplate.h"

#include <iostream>

using namespace sluice;

static Result<std::string> render(const std::string &line) {
  SLUICE_ASSIGN_OR_RETURN(json::Value input, json::parse(line, "line"));
  SLUICE_ASSIGN_OR_RETURN(std::string source, input.getString("template"));
  SLUICE_ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::parse(source));
  ChatRenderOptions options;
  SLUICE_ASSIGN_OR_RETURN(options.addGenerationPrompt, input.getBool("prompt"));
  SLUICE_ASSIGN_OR_RETURN(int64_t now, input.getInt("now"));
  options.now = static_cast<std::time_t>(now);
  options.extra = *input.find("extra");
  return chat.render(*input.find("messages"), options);
}

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    auto text = render(line);
    json::Value output = json::Value::object();
    if (text.isOk())
      output.set("text", *text);
    else
      output.set("error", text.status().toString());
    std::cout << output.dump() << "\n";
  }
  return 0;
}
