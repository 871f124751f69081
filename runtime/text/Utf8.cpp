//===- Utf8.cpp - Code points in byte strings -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The table of well-formed sequences (Unicode 3.9, table 3-7) as code: only the second byte has a
// range that depends on the first.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/Utf8.h"

namespace sluice::text {

Utf8Step examineUtf8(std::string_view text, size_t pos) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  uint32_t lead = byte(pos);
  if (lead < 0x80)
    return {Utf8Step::kValid, lead, 1};
  uint32_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                    : lead >= 0xE0 && lead <= 0xEF ? 3
                    : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                   : 0;
  if (length == 0)
    return {Utf8Step::kIllFormed, 0xFFFD, 1};
  uint32_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint32_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  uint32_t value = lead & (0xFF >> (length + 1));
  for (uint32_t i = 1; i < length; ++i) {
    if (pos + i >= text.size())
      return {Utf8Step::kIncomplete, 0xFFFD, i};
    uint32_t next = byte(pos + i);
    if (next < low || next > high)
      return {Utf8Step::kIllFormed, 0xFFFD, i};
    value = value << 6 | (next & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Step::kValid, value, length};
}

void appendUtf8(std::string &out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::string replaceIllFormed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    Utf8Step step = examineUtf8(text, pos);
    out += step.kind == Utf8Step::kValid ? text.substr(pos, step.size) : kReplacement;
    pos += step.size;
  }
  return out;
}

} // namespace sluice::text
