//===- Normalizer.cpp - The "normalizer" of a tokenizer.json ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Sequences are flattened while loading, so that applying a normalizer is one loop. Text in ASCII,
// the common case, skips the Unicode forms altogether.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/Normalizer.h"

#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utf8proc.h>

namespace sluice::text {

static Status appendNormalized(std::string_view segment, UnicodeForm form, std::string &out) {
  if (segment.empty())
    return Status::ok();
  int options = UTF8PROC_STABLE;
  bool composes = form == UnicodeForm::kNFC || form == UnicodeForm::kNFKC;
  options |= composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::kNFKC || form == UnicodeForm::kNFKD)
    options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t *result = nullptr;
  utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(segment.data()),
                                       static_cast<utf8proc_ssize_t>(segment.size()), &result,
                                       static_cast<utf8proc_option_t>(options));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0)
    return resourceExhausted("normalizing " + std::to_string(segment.size()) +
                             " bytes failed: " + utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char *>(result), static_cast<size_t>(size));
  return Status::ok();
}

Result<std::string> normalizeUnicode(std::string_view text, UnicodeForm form) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }))
    return std::string(text);
  std::string out;
  out.reserve(text.size());
  size_t segment = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    if (!isUnknownToNormalization(nextCodePoint(text, pos)))
      continue;
    SLUICE_RETURN_IF_ERROR(appendNormalized(text.substr(segment, start - segment), form, out));
    out += text.substr(start, pos - start);
    segment = pos;
  }
  SLUICE_RETURN_IF_ERROR(appendNormalized(text.substr(segment), form, out));
  return out;
}

static std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();)
    appendLowercase(out, nextCodePoint(text, pos));
  return out;
}

static std::string_view strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    size_t pos = 0;
    if (!isWhiteSpace(nextCodePoint(text, pos)))
      break;
    text.remove_prefix(pos);
  }
  while (right && !text.empty()) {
    size_t start = previousCodePoint(text, text.size()), pos = start;
    if (!isWhiteSpace(nextCodePoint(text, pos)))
      break;
    text = text.substr(0, start);
  }
  return text;
}

Status unsupportedType(const json::Cursor &component, std::string_view type,
                       std::string_view supported) {
  std::string key = component.path().empty() ? std::string() : "key \"" + component.path() + "\": ";
  return unsupported((component.document().empty() ? "" : component.document() + ": ") + key +
                     "type \"" + std::string(type) + "\" is not supported; supported are " +
                     std::string(supported));
}

Result<SplitPattern> patternFromJson(const json::Cursor &component) {
  SLUICE_ASSIGN_OR_RETURN(json::Cursor pattern, component.getObject("pattern"));
  auto located = [&](Result<SplitPattern> result) {
    return result.isOk() ? std::move(result)
                         : Result<SplitPattern>(result.status().withContext(
                               pattern.document() + ": key \"" + pattern.path() + "\""));
  };
  if (pattern.has("Regex")) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, pattern.getString("Regex"));
    return located(SplitPattern::regex(text));
  }
  SLUICE_ASSIGN_OR_RETURN(std::string text, pattern.getString("String"));
  return located(SplitPattern::literal(text));
}

Result<Normalizer> Normalizer::fromJson(const json::Cursor &normalizer) {
  Normalizer result;
  if (!normalizer.value().isNull())
    SLUICE_RETURN_IF_ERROR(result.append(normalizer, 0));
  return result;
}

Status Normalizer::append(const json::Cursor &normalizer, int depth) {
  SLUICE_ASSIGN_OR_RETURN(std::string type, normalizer.getString("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth)
      return normalizer.error("sequences nest deeper than " + std::to_string(kMaxSequenceDepth));
    SLUICE_ASSIGN_OR_RETURN(json::Cursor list, normalizer.getArray("normalizers"));
    for (size_t i = 0; i < list.value().size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(json::Cursor element, list.element(i));
      SLUICE_RETURN_IF_ERROR(append(element, depth + 1));
    }
  } else if (type == "NFC") {
    steps.emplace_back(UnicodeForm::kNFC);
  } else if (type == "NFD") {
    steps.emplace_back(UnicodeForm::kNFD);
  } else if (type == "NFKC") {
    steps.emplace_back(UnicodeForm::kNFKC);
  } else if (type == "NFKD") {
    steps.emplace_back(UnicodeForm::kNFKD);
  } else if (type == "Lowercase") {
    steps.emplace_back(Lowercase{});
  } else if (type == "Replace") {
    SLUICE_ASSIGN_OR_RETURN(SplitPattern pattern, patternFromJson(normalizer));
    SLUICE_ASSIGN_OR_RETURN(std::string content, normalizer.getString("content"));
    steps.emplace_back(Replace{std::move(pattern), std::move(content)});
  } else if (type == "Prepend") {
    SLUICE_ASSIGN_OR_RETURN(std::string text, normalizer.getString("prepend"));
    steps.emplace_back(Prepend{std::move(text)});
  } else if (type == "Strip") {
    SLUICE_ASSIGN_OR_RETURN(bool left, normalizer.getBool("strip_left"));
    SLUICE_ASSIGN_OR_RETURN(bool right, normalizer.getBool("strip_right"));
    steps.emplace_back(Strip{left, right});
  } else {
    return unsupportedType(normalizer, type,
                           "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip");
  }
  return Status::ok();
}

Result<std::string> Normalizer::apply(std::string_view input, MatchScratch &scratch) const {
  std::string text(input);
  std::vector<Span> spans;
  for (const Step &step : steps) {
    if (auto *form = std::get_if<UnicodeForm>(&step)) {
      SLUICE_ASSIGN_OR_RETURN(text, normalizeUnicode(text, *form));
    } else if (std::holds_alternative<Lowercase>(step)) {
      text = lowercase(text);
    } else if (auto *replace = std::get_if<Replace>(&step)) {
      SLUICE_RETURN_IF_ERROR(replace->pattern.findMatches(text, scratch, spans));
      std::string out;
      for (const Span &span : spans)
        out += span.isMatch ? std::string_view(replace->content)
                            : std::string_view(text).substr(span.begin, span.end - span.begin);
      text = std::move(out);
    } else if (auto *prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty())
        text.insert(0, prepend->text);
    } else if (auto *sides = std::get_if<Strip>(&step)) {
      text = std::string(strip(text, sides->left, sides->right));
    }
  }
  return text;
}

} // namespace sluice::text
