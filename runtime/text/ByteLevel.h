//===- ByteLevel.h - Bytes as printable characters --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Byte-level vocabularies spell every byte as one printable character (GPT-2's table): those of
// Latin-1 that are printable stand for themselves, the other 68 follow from U+0100.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_BYTE_LEVEL_H
#define SLUICE_RUNTIME_TEXT_BYTE_LEVEL_H

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::text {

/// The character that stands for `byte`.
uint32_t byteLevelCharacter(uint8_t byte);

/// Appends the spelling of `bytes`.
void appendByteLevel(std::string &out, std::string_view bytes);

/// The bytes that a token stands for; a token with a character outside the table stands for its own
/// UTF-8 bytes, as in the reference.
std::string bytesOfByteLevel(std::string_view token);

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_BYTE_LEVEL_H
