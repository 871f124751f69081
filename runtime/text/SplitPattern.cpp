//===- SplitPattern.cpp - Patterns that cut text ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Patterns run on PCRE2's just-in-time compiler with a stack of its own; where that stack does not
// suffice the interpreter takes over, which works on the heap. Both have limits, so that a hostile
// pattern ends in an error.
//
//===------------------------------------------------------------------------===//
#define PCRE2_CODE_UNIT_WIDTH 8

#include "runtime/text/SplitPattern.h"

#include "runtime/base/Format.h"
#include "runtime/text/RegexTranslator.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <pcre2.h>

namespace sluice::text {
namespace {

constexpr size_t kJitStackStart = 32 << 10, kJitStackMost = 4 << 20;
constexpr uint32_t kHeapLimitKib = 256 << 10;
constexpr uint64_t kStepsAtLeast = 10'000'000, kStepsPerByte = 64;

template <auto free> struct Free {
  template <typename T> void operator()(T *pointer) const { free(pointer); }
};
template <typename T, auto free> using Handle = std::unique_ptr<T, Free<free>>;

std::string pcreMessage(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char *>(text);
}

} // namespace

struct MatchScratch::Data {
  Handle<pcre2_match_data, pcre2_match_data_free> match{pcre2_match_data_create(1, nullptr)};
  Handle<pcre2_match_context, pcre2_match_context_free> context{
      pcre2_match_context_create(nullptr)};
  Handle<pcre2_jit_stack, pcre2_jit_stack_free> stack{
      pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr)};
};

MatchScratch::MatchScratch() : data(std::make_unique<Data>()) {
  if (data->context) {
    pcre2_jit_stack_assign(data->context.get(), nullptr, data->stack.get());
    pcre2_set_heap_limit(data->context.get(), kHeapLimitKib);
  }
}
MatchScratch::MatchScratch(MatchScratch &&) noexcept = default;
MatchScratch &MatchScratch::operator=(MatchScratch &&) noexcept = default;
MatchScratch::~MatchScratch() = default;

struct SplitPattern::Code {
  Handle<pcre2_code, pcre2_code_free> code;
  std::string shown;
};

Result<SplitPattern> SplitPattern::compile(std::string_view pattern, uint32_t options,
                                           std::string_view shown) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_NO_UTF_CHECK | options, &error, &offset, nullptr);
  if (!code)
    return dataCorrupt("the pattern " + std::string(shown) +
                       " is malformed: " + pcreMessage(error));
  auto result = std::make_shared<Code>();
  result->code.reset(code);
  result->shown = shown;
  // Without executable memory this fails and matching falls back to the interpreter by itself.
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return SplitPattern(std::move(result));
}

Result<SplitPattern> SplitPattern::regex(std::string_view pattern) {
  SLUICE_ASSIGN_OR_RETURN(std::string translated, translateRegex(pattern));
  // Ruby's ^ and $ always match at line ends.
  return compile(translated, PCRE2_UCP | PCRE2_MULTILINE, pattern);
}

Result<SplitPattern> SplitPattern::literal(std::string_view text) {
  return compile(text, PCRE2_LITERAL, text);
}

Status SplitPattern::findMatches(std::string_view subject, MatchScratch &scratch,
                                 std::vector<Span> &spans) const {
  spans.clear();
  if (subject.empty())
    return Status::ok();
  MatchScratch::Data &data = *scratch.data;
  if (!data.match || !data.context)
    return resourceExhausted("no memory for matching patterns");
  uint64_t steps = std::max<uint64_t>(kStepsAtLeast, kStepsPerByte * subject.size());
  pcre2_set_match_limit(data.context.get(),
                        static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
  auto *text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  size_t covered = 0, from = 0, lastMatchEnd = SIZE_MAX;
  while (from <= subject.size()) {
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(code->code.get(), text, subject.size(), from, options, data.match.get(),
                         data.context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
      rc = pcre2_match(code->code.get(), text, subject.size(), from, options | PCRE2_NO_JIT,
                       data.match.get(), data.context.get());
    if (rc == PCRE2_ERROR_NOMATCH)
      break;
    if (rc < 0)
      return resourceExhausted(
          format("matching the pattern %s on %zu bytes failed: %s; the pattern "
                 "is too expensive for this text",
                 code->shown.c_str(), subject.size(), pcreMessage(rc).c_str()));
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(data.match.get());
    size_t begin = range[0], end = range[1];
    if (begin == end && lastMatchEnd == end) {
      // An empty match right behind a match does not count: step over one character.
      from += from < subject.size() ? codePointSize(subject[from]) : 1;
      continue;
    }
    from = lastMatchEnd = end;
    if (begin > covered)
      spans.push_back({covered, begin, false});
    spans.push_back({begin, end, true});
    covered = end;
  }
  if (covered < subject.size())
    spans.push_back({covered, subject.size(), false});
  return Status::ok();
}

void applyBehavior(SplitBehavior behavior, std::vector<Span> &spans) {
  size_t kept = 0;
  bool previousMatch = false;
  switch (behavior) {
  case SplitBehavior::kIsolated:
    return;
  case SplitBehavior::kRemoved:
    std::erase_if(spans, [](const Span &span) { return span.isMatch; });
    return;
  case SplitBehavior::kContiguous:
  case SplitBehavior::kMergedWithPrevious:
    for (Span span : spans) {
      bool merge = behavior == SplitBehavior::kContiguous ? span.isMatch == previousMatch
                                                          : span.isMatch && !previousMatch;
      previousMatch = span.isMatch;
      if (merge && kept > 0)
        spans[kept - 1].end = span.end;
      else
        spans[kept++] = span;
    }
    spans.resize(kept);
    return;
  case SplitBehavior::kMergedWithNext: {
    std::vector<Span> reversed;
    for (size_t i = spans.size(); i-- > 0;) {
      Span span = spans[i];
      if (span.isMatch && !previousMatch && !reversed.empty())
        reversed.back().begin = span.begin;
      else
        reversed.push_back(span);
      previousMatch = span.isMatch;
    }
    spans.assign(reversed.rbegin(), reversed.rend());
    return;
  }
  }
}

} // namespace sluice::text
