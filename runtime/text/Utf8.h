//===- Utf8.h - Code points in byte strings ---------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Text enters as bytes of unknown quality and is made valid once, at the door; everything behind it
// may then walk code points without checks. Ill-formed input is cut into maximal subparts (Unicode
// 3.9, "U+FFFD substitution of maximal subparts"), the rule that Rust and Python follow.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_UTF8_H
#define SLUICE_RUNTIME_TEXT_UTF8_H

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD"; // U+FFFD

struct Utf8Step {
  enum Kind { kValid, kIllFormed, kIncomplete } kind;
  uint32_t codePoint; ///< U+FFFD unless valid
  uint32_t size;      ///< bytes: of the code point, or of the maximal subpart
};

/// Examines the code point at `pos` < text.size(). kIncomplete is an ill-formed part that more
/// bytes behind the end of `text` could complete.
Utf8Step examineUtf8(std::string_view text, size_t pos);

/// The code point at `pos` of valid UTF-8; advances `pos` behind it.
inline uint32_t nextCodePoint(std::string_view text, size_t &pos) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[pos + i])); };
  uint32_t lead = byte(0);
  if (lead < 0x80) {
    pos += 1;
    return lead;
  }
  if (lead < 0xE0) {
    uint32_t value = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    pos += 2;
    return value;
  }
  if (lead < 0xF0) {
    uint32_t value = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    pos += 3;
    return value;
  }
  uint32_t value =
      (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  pos += 4;
  return value;
}

/// The length of the code point that begins with the byte `lead`.
inline size_t codePointSize(char lead) {
  uint8_t byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Start of the last code point of valid, non-empty UTF-8 that ends at `end`.
inline size_t previousCodePoint(std::string_view text, size_t end) {
  do
    --end;
  while ((static_cast<uint8_t>(text[end]) & 0xC0) == 0x80);
  return end;
}

/// Appends a scalar value.
void appendUtf8(std::string &out, uint32_t codePoint);

/// `text` with every maximal ill-formed part replaced by U+FFFD.
std::string replaceIllFormed(std::string_view text);

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_UTF8_H
