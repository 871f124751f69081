//===- PreTokenizer.cpp - The "pre_tokenizer" of a tokenizer.json -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// As for normalizers, sequences are flattened while loading. Classes of characters that Rust code
// of the reference tests directly (digits, white space) are tested directly here too.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/PreTokenizer.h"

#include "runtime/text/ByteLevel.h"
#include "runtime/text/Normalizer.h"
#include "runtime/text/UnicodeSets.h"
#include "runtime/text/Utf8.h"

namespace sluice::text {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Every character for which `matches` holds is a match of its own.
template <typename F>
void findCharacters(std::string_view text, F matches, std::vector<Span> &out) {
  size_t covered = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    if (!matches(nextCodePoint(text, pos)))
      continue;
    if (start > covered)
      out.push_back({covered, start, false});
    out.push_back({start, pos, true});
    covered = pos;
  }
  if (covered < text.size())
    out.push_back({covered, text.size(), false});
}

/// Runs of one class are one part; class 0 is dropped.
template <typename F> void findRuns(std::string_view text, F classOf, std::vector<Span> &out) {
  int open = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t start = pos;
    int cls = classOf(nextCodePoint(text, pos));
    if (cls != 0 && cls == open)
      out.back().end = pos;
    else if (cls != 0)
      out.push_back({start, pos, true});
    open = cls;
  }
}

Result<SplitBehavior> behaviorFromJson(const json::Cursor &component) {
  SLUICE_ASSIGN_OR_RETURN(std::string name, component.getString("behavior"));
  static constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (auto [known, behavior] : kNames)
    if (name == known)
      return behavior;
  return component.error("behavior \"" + name +
                         "\" is none of Removed, Isolated, MergedWithPrevious, MergedWithNext, "
                         "Contiguous");
}

Result<PreTokenizer::Metaspace> metaspaceFromJson(const json::Cursor &component) {
  PreTokenizer::Metaspace result;
  SLUICE_ASSIGN_OR_RETURN(result.replacement, component.getString("replacement"));
  if (result.replacement.empty() ||
      codePointSize(result.replacement[0]) != result.replacement.size())
    return component.error("replacement \"" + result.replacement + "\" is not one character");
  SLUICE_ASSIGN_OR_RETURN(std::string scheme, component.getStringOr("prepend_scheme", "always"));
  SLUICE_ASSIGN_OR_RETURN(bool prefix, component.getBoolOr("add_prefix_space", true));
  if (!prefix && component.has("prepend_scheme") && scheme != "never")
    return component.error("add_prefix_space is false but prepend_scheme is \"" + scheme + "\"");
  if (!prefix || scheme == "never")
    result.scheme = PreTokenizer::PrependScheme::kNever;
  else if (scheme == "always")
    result.scheme = PreTokenizer::PrependScheme::kAlways;
  else if (scheme == "first")
    result.scheme = PreTokenizer::PrependScheme::kFirst;
  else
    return component.error("prepend_scheme \"" + scheme + "\" is none of always, first, never");
  SLUICE_ASSIGN_OR_RETURN(result.split, component.getBoolOr("split", true));
  return result;
}

} // namespace

Result<PreTokenizer> PreTokenizer::fromJson(const json::Cursor &preTokenizer) {
  PreTokenizer result;
  if (!preTokenizer.value().isNull())
    SLUICE_RETURN_IF_ERROR(result.append(preTokenizer, 0));
  return result;
}

Status PreTokenizer::append(const json::Cursor &component, int depth) {
  SLUICE_ASSIGN_OR_RETURN(std::string type, component.getString("type"));
  if (type == "Sequence") {
    if (depth == kMaxSequenceDepth)
      return component.error("sequences nest deeper than " + std::to_string(kMaxSequenceDepth));
    SLUICE_ASSIGN_OR_RETURN(json::Cursor list, component.getArray("pretokenizers"));
    for (size_t i = 0; i < list.value().size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(json::Cursor element, list.element(i));
      SLUICE_RETURN_IF_ERROR(append(element, depth + 1));
    }
  } else if (type == "Split") {
    SLUICE_ASSIGN_OR_RETURN(SplitPattern pattern, patternFromJson(component));
    SLUICE_ASSIGN_OR_RETURN(SplitBehavior behavior, behaviorFromJson(component));
    SLUICE_ASSIGN_OR_RETURN(bool invert, component.getBoolOr("invert", false));
    steps.emplace_back(Split{std::move(pattern), behavior, invert});
  } else if (type == "ByteLevel") {
    SLUICE_ASSIGN_OR_RETURN(bool prefix, component.getBool("add_prefix_space"));
    SLUICE_ASSIGN_OR_RETURN(bool useRegex, component.getBoolOr("use_regex", true));
    SLUICE_ASSIGN_OR_RETURN(SplitPattern pattern, SplitPattern::regex(kGpt2Pattern));
    ByteLevel step{prefix, std::nullopt};
    if (useRegex)
      step.pattern = std::move(pattern);
    steps.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    SLUICE_ASSIGN_OR_RETURN(Metaspace step, metaspaceFromJson(component));
    steps.emplace_back(std::move(step));
  } else if (type == "Digits") {
    SLUICE_ASSIGN_OR_RETURN(bool individual, component.getBoolOr("individual_digits", false));
    steps.emplace_back(Digits{individual});
  } else if (type == "Whitespace") {
    steps.emplace_back(Whitespace{});
  } else if (type == "WhitespaceSplit") {
    steps.emplace_back(WhitespaceSplit{});
  } else {
    return unsupportedType(component, type,
                           "Sequence, Split, ByteLevel, Metaspace, Digits, Whitespace, "
                           "WhitespaceSplit");
  }
  return Status::ok();
}

static Status applyStep(const PreTokenizer::Split &step, PieceList &pieces, MatchScratch &scratch) {
  return pieces.split([&](std::string_view text, std::vector<Span> &spans) {
    SLUICE_RETURN_IF_ERROR(step.pattern.findMatches(text, scratch, spans));
    if (step.invert)
      for (Span &span : spans)
        span.isMatch = !span.isMatch;
    applyBehavior(step.behavior, spans);
    return Status::ok();
  });
}

static Status applyStep(const PreTokenizer::ByteLevel &step, PieceList &pieces,
                        MatchScratch &scratch) {
  if (step.addPrefixSpace)
    SLUICE_RETURN_IF_ERROR(pieces.rewrite([](std::string_view text, bool, std::string &out) {
      if (text[0] != ' ')
        out += ' ';
      out += text;
      return Status::ok();
    }));
  if (step.pattern)
    SLUICE_RETURN_IF_ERROR(pieces.split([&](std::string_view text, std::vector<Span> &spans) {
      return step.pattern->findMatches(text, scratch, spans);
    }));
  return pieces.rewrite([](std::string_view text, bool, std::string &out) {
    appendByteLevel(out, text);
    return Status::ok();
  });
}

static Status applyStep(const PreTokenizer::Metaspace &step, PieceList &pieces, MatchScratch &) {
  using Scheme = PreTokenizer::PrependScheme;
  SLUICE_RETURN_IF_ERROR(pieces.rewrite([&](std::string_view text, bool atStart, std::string &out) {
    bool marked = text[0] == ' ' || text.substr(0, step.replacement.size()) == step.replacement;
    if (!marked && (step.scheme == Scheme::kAlways || (step.scheme == Scheme::kFirst && atStart)))
      out += step.replacement;
    for (char c : text)
      if (c == ' ')
        out += step.replacement;
      else
        out += c;
    return Status::ok();
  }));
  if (!step.split)
    return Status::ok();
  size_t pos = 0;
  uint32_t marker = nextCodePoint(step.replacement, pos);
  return pieces.split([&](std::string_view text, std::vector<Span> &spans) {
    findCharacters(
        text, [&](uint32_t c) { return c == marker; }, spans);
    applyBehavior(SplitBehavior::kMergedWithNext, spans);
    return Status::ok();
  });
}

static Status applyStep(const PreTokenizer::Digits &step, PieceList &pieces, MatchScratch &) {
  return pieces.split([&](std::string_view text, std::vector<Span> &spans) {
    findCharacters(text, isNumeric, spans);
    applyBehavior(step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, spans);
    return Status::ok();
  });
}

static Status applyStep(const PreTokenizer::Whitespace &, PieceList &pieces, MatchScratch &) {
  return pieces.split([](std::string_view text, std::vector<Span> &spans) {
    findRuns(
        text, [](uint32_t c) { return isWordCharacter(c) ? 1
                                      : isWhiteSpace(c)  ? 0
                                                         : 2; }, spans);
    return Status::ok();
  });
}

static Status applyStep(const PreTokenizer::WhitespaceSplit &, PieceList &pieces, MatchScratch &) {
  return pieces.split([](std::string_view text, std::vector<Span> &spans) {
    findRuns(
        text, [](uint32_t c) { return isWhiteSpace(c) ? 0 : 1; }, spans);
    return Status::ok();
  });
}

Status PreTokenizer::apply(PieceList &pieces, MatchScratch &scratch) const {
  for (const Step &step : steps)
    SLUICE_RETURN_IF_ERROR(
        std::visit([&](const auto &s) { return applyStep(s, pieces, scratch); }, step));
  return Status::ok();
}

} // namespace sluice::text
