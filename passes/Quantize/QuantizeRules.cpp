//===- QuantizeRules.cpp - What --quantize says -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Quantize/QuantizeRules.h"

#include <utility>

namespace sluice {
namespace {

constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
    {"fp8-tensor", "f8e4m3:tensor"},
    {"fp8-channel", "f8e4m3:channel"},
    {"fp8-block", "f8e4m3:block128x128"},
    {"int8-channel", "i8:channel"},
    {"int4-g32", "i4:group32"},
    {"int4-g128", "i4:group128"},
    {"mxfp4", "mxfp4"},
    {"nvfp4", "nvfp4"},
};

constexpr std::pair<std::string_view, unsigned> kScopes[] = {
    {"all", kScopeAll},         {"attention", kScopeAttention}, {"ffn", kScopeFfn},
    {"experts", kScopeExperts}, {"shared", kScopeShared},
};

template <typename Table> std::string namesOf(const Table &table) {
  std::string names;
  for (const auto &row : table)
    names += (names.empty() ? "" : ", ") + std::string(row.first);
  return names;
}

template <typename Table> auto find(const Table &table, std::string_view name) {
  const auto *row = std::begin(table);
  while (row != std::end(table) && row->first != name)
    ++row;
  return row;
}

/// Cuts the text before the first `separator` off `rest`.
std::string_view take(std::string_view &rest, char separator) {
  size_t end = rest.find(separator);
  std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

} // namespace

Result<QuantizeRule> parseQuantizeRule(std::string_view text) {
  std::string_view rest = text, name = take(rest, ':');
  const auto *format = find(kFormats, name);
  if (format == std::end(kFormats))
    return invalidArgument("unknown weight format \"" + std::string(name) +
                           "\"; known are keep, bf16, f16, f32, " + namesOf(kFormats));
  QuantizeRule rule{std::string(format->first), std::string(format->second), kScopeAll};
  if (name.size() == text.size())
    return rule;
  rule.scopes = 0;
  do {
    std::string_view word = take(rest, '+');
    const auto *scope = find(kScopes, word);
    if (scope == std::end(kScopes))
      return invalidArgument("unknown scope \"" + std::string(word) + "\" of weight format " +
                             rule.name + "; known are " + namesOf(kScopes));
    rule.scopes |= scope->second;
  } while (!rest.empty());
  return rule;
}

Result<QuantizeChoice> parseQuantizeChoice(std::string_view text) {
  QuantizeChoice choice;
  std::string_view rest = text, plain;
  do {
    std::string_view word = take(rest, ',');
    if (word == "keep" || word == "bf16" || word == "f16" || word == "f32") {
      if (!plain.empty())
        return invalidArgument("weight formats " + std::string(plain) + " and " +
                               std::string(word) +
                               " are both for weights that stay numbers; give one of them");
      choice.numbers = plain = word;
      continue;
    }
    SLUICE_RETURN_IF_ERROR(parseQuantizeRule(word).status());
    choice.rules.emplace_back(word);
  } while (!rest.empty());
  return choice;
}

std::vector<std::string> quantizeFormatNames() {
  std::vector<std::string> names;
  for (const auto &row : kFormats)
    names.emplace_back(row.first);
  return names;
}

} // namespace sluice
