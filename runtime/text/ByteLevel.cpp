//===- ByteLevel.cpp - Bytes as printable characters ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Both directions are tables of 256 and 324 entries, computed once at compile time.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ByteLevel.h"

#include "runtime/text/Utf8.h"

#include <array>

namespace sluice::text {

static constexpr uint32_t kCharacters = 0x100 + 68;

static constexpr std::array<uint16_t, 256> makeForward() {
  std::array<uint16_t, 256> table{};
  uint16_t next = 0x100;
  for (uint16_t byte = 0; byte < 256; ++byte) {
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    table[byte] = printable ? byte : next++;
  }
  return table;
}
static constexpr std::array<uint16_t, 256> kForward = makeForward();

static constexpr std::array<int16_t, kCharacters> makeBackward() {
  std::array<int16_t, kCharacters> table{};
  for (int16_t &entry : table)
    entry = -1;
  for (int16_t byte = 0; byte < 256; ++byte)
    table[kForward[static_cast<size_t>(byte)]] = byte;
  return table;
}
static constexpr std::array<int16_t, kCharacters> kBackward = makeBackward();

uint32_t byteLevelCharacter(uint8_t byte) { return kForward[byte]; }

void appendByteLevel(std::string &out, std::string_view bytes) {
  for (char byte : bytes)
    appendUtf8(out, kForward[static_cast<uint8_t>(byte)]);
}

std::string bytesOfByteLevel(std::string_view token) {
  std::string out;
  out.reserve(token.size());
  for (size_t pos = 0; pos < token.size();) {
    uint32_t c = nextCodePoint(token, pos);
    if (c >= kCharacters || kBackward[c] < 0)
      return std::string(token);
    out += static_cast<char>(kBackward[c]);
  }
  return out;
}

} // namespace sluice::text
