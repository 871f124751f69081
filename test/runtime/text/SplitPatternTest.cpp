//===- SplitPatternTest.cpp - Oniguruma's syntax on PCRE2 -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// What the two syntaxes read differently, the behaviours of a split, and refusals by name.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/SplitPattern.h"

#include <gmock/gmock.h>

using namespace sluice;
using namespace sluice::text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

static std::vector<std::string> matches(std::string_view pattern, std::string_view subject) {
  auto compiled = SplitPattern::regex(pattern);
  EXPECT_TRUE(compiled.isOk()) << compiled.status().toString();
  MatchScratch scratch;
  std::vector<Span> spans;
  EXPECT_TRUE(compiled->findMatches(subject, scratch, spans).isOk());
  std::vector<std::string> found;
  for (const Span &span : spans)
    if (span.isMatch)
      found.emplace_back(subject.substr(span.begin, span.end - span.begin));
  return found;
}

static std::string errorOf(std::string_view pattern) {
  auto compiled = SplitPattern::regex(pattern);
  return compiled.isOk() ? "ok" : compiled.status().toString();
}

static std::vector<std::string> split(SplitBehavior behavior) {
  std::string_view subject = "the-final--countdown";
  MatchScratch scratch;
  std::vector<Span> spans;
  EXPECT_TRUE(SplitPattern::literal("-")->findMatches(subject, scratch, spans).isOk());
  applyBehavior(behavior, spans);
  std::vector<std::string> parts;
  for (const Span &span : spans)
    parts.emplace_back(subject.substr(span.begin, span.end - span.begin));
  return parts;
}

TEST(SplitPatternTest, ReadsRubysQuantifiers) {
  EXPECT_THAT(matches("a{2}+", "aaaaa"), ElementsAre("aaaa")) << "repeated, not possessive";
  EXPECT_THAT(matches("a{2}?b", "aab ab b"), ElementsAre("aab", "b", "b")) << "optional, not lazy";
  EXPECT_THAT(matches("a{1,2}?", "aa"), ElementsAre("a", "a"));
  EXPECT_THAT(matches("a{,2}b", "aaab"), ElementsAre("aab"));
  EXPECT_THAT(matches("a{x}", "a{x}"), ElementsAre("a{x}")) << "no interval: literal";
  EXPECT_THAT(matches("a++a", "aaa"), ElementsAre()) << "possessive";
}

TEST(SplitPatternTest, ReadsRubysClasses) {
  EXPECT_THAT(matches("\\h+", "xff10 "), ElementsAre("ff10"));
  EXPECT_THAT(matches("[a-z&&[^aeiou]]+", "hello"), ElementsAre("h", "ll"));
  EXPECT_THAT(matches("[^a-z&&[^aeiou]]+", "hello"), ElementsAre("e", "o"));
  EXPECT_THAT(matches("[a[0-9]]+", "ba1-"), ElementsAre("a1"));
  EXPECT_THAT(matches("[\\S]+", "a b\xE1\xA0\x8E"), ElementsAre("a", "b\xE1\xA0\x8E"))
      << "U+180E is no white space";
  EXPECT_THAT(matches("\\v", "\n\v"), ElementsAre("\v"));
  EXPECT_THAT(matches("\\p{Han}+", "\xE6\xB0\xB4\xE3\x80\x81"), ElementsAre("\xE6\xB0\xB4"))
      << "the script, not its extensions (U+3001)";
  EXPECT_THAT(matches("\\p{L}+", "a\xF0\x90\xB5\x90"), ElementsAre("a\xF0\x90\xB5\x90"))
      << "U+10D50, a letter since Unicode 16";
  EXPECT_THAT(matches("[\\P{L}]+", "a1\xF0\x90\xB5\x90"), ElementsAre("1"));
  EXPECT_THAT(matches("\\p{Cn}", "\xF0\x90\xB5\x90\xCD\xB8"), ElementsAre("\xCD\xB8"));
  EXPECT_THAT(matches("\\u6C34|\\x{4E00}|\\x41", "\xE6\xB0\xB4\xE4\xB8\x80"
                                                 "A"),
              ElementsAre("\xE6\xB0\xB4", "\xE4\xB8\x80", "A"));
  EXPECT_THAT(matches("[]a]+", "]a"), ElementsAre("]a"));
  EXPECT_THAT(matches("[+--]+", "+,-."), ElementsAre("+,-"));
  EXPECT_THAT(matches("(?i:ab)c", "ABc ABC"), ElementsAre("ABc"));
  EXPECT_THAT(matches("^b$", "a\nb\nc"), ElementsAre("b")) << "lines, always";
}

TEST(SplitPatternTest, SkipsEmptyMatchesBehindAMatch) {
  EXPECT_THAT(matches("a*", "aab"), ElementsAre("aa", ""));
}

TEST(SplitPatternTest, SplitsByBehavior) {
  EXPECT_THAT(split(SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(SplitPatternTest, RefusesByName) {
  EXPECT_THAT(errorOf("\\bword"), HasSubstr("the escape \"\\b\" is not supported at byte 0"));
  EXPECT_THAT(errorOf("(a)\\1"), HasSubstr("the escape \"\\1\""));
  EXPECT_THAT(errorOf("(?<n>a)"), HasSubstr("the group \"(?<n...\""));
  EXPECT_THAT(errorOf("a(?i)b|c"), HasSubstr("the group \"(?i)...\""));
  EXPECT_THAT(errorOf("\\p{Klingon}"), HasSubstr("the property \"Klingon\""));
  EXPECT_THAT(errorOf("[[:alpha:]]"), HasSubstr("the class \"[:alpha:]\""));
  EXPECT_THAT(errorOf("a{3,2}"), HasSubstr("first number is the larger"));
  EXPECT_THAT(errorOf("\\xFF"), HasSubstr("a single byte above 0x7F"));
}

TEST(SplitPatternTest, LocatesMistakes) {
  EXPECT_THAT(errorOf("[a"), HasSubstr("corrupt data: unterminated class at byte 2"));
  EXPECT_THAT(errorOf("(a"), HasSubstr("unterminated group"));
  EXPECT_THAT(errorOf("a)"), HasSubstr("unmatched )"));
  EXPECT_THAT(errorOf("*a"), HasSubstr("a quantifier without a target"));
  EXPECT_THAT(errorOf("a\\"), HasSubstr("a backslash at the end"));
  EXPECT_THAT(errorOf("[z-a]"), HasSubstr("a range whose end precedes its start"));
  EXPECT_THAT(errorOf("\\p{L"), HasSubstr("a property without braces"));
  EXPECT_THAT(errorOf(std::string(1000, '(')), HasSubstr("groups nest deeper than 64"));
  EXPECT_THAT(errorOf(std::string(1000, '[')), HasSubstr("classes nest deeper than 64"));
}

TEST(SplitPatternTest, AnExplosivePatternEndsInAnError) {
  auto compiled = SplitPattern::regex("(a+a+)+(a+a+)+c");
  ASSERT_TRUE(compiled.isOk());
  MatchScratch scratch;
  std::vector<Span> spans;
  Status status = compiled->findMatches(std::string(200, 'a') + "b" + "c", scratch, spans);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.toString();
  EXPECT_THAT(std::string(status.message()), HasSubstr("too expensive"));
}
