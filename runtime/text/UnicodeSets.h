//===- UnicodeSets.h - Character classes as the reference has them ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Hugging Face `tokenizers` takes its character classes from several libraries of different Unicode
// versions (Oniguruma and Rust's regex: 16, its normalisation: 9), while Debian's PCRE2 and
// utf8proc know 14 and 15. Equal ids need equal classes, so the differences are tabulated here.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_UNICODE_SETS_H
#define SLUICE_RUNTIME_TEXT_UNICODE_SETS_H

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sluice::text {

/// General categories in the order of utf8proc_category_t.
enum class Category : uint8_t {
  // clang-format off
  Cn, Lu, Ll, Lt, Lm, Lo, Mn, Mc, Me, Nd, Nl, No, Pc, Pd, Ps, Pe, Pi, Pf, Po, Sm, Sc, Sk, So,
  Zs, Zl, Zp, Cc, Cf, Cs, Co,
  // clang-format on
};

/// The two letters of a category, "Lu".
std::string_view categoryName(Category category);

struct CategoryRange {
  uint32_t first, last;
  Category category;
};

/// Code points that Unicode 15.0, 15.1 and 16.0 assigned (their category in 14.0 is Cn), ascending.
/// Extracted by comparing the general categories of Oniguruma 6.9.10 with those of Unicode 14.0.
std::span<const CategoryRange> newlyAssigned();

/// The general category in Unicode 16.0.
Category generalCategory(uint32_t codePoint);

/// The property White_Space (`\s` of Oniguruma and of Rust).
bool isWhiteSpace(uint32_t codePoint);
/// `\w` of Rust's regex: Alphabetic, marks, decimal numbers, connector punctuation, join controls.
bool isWordCharacter(uint32_t codePoint);
/// Rust's char::is_numeric: Nd, Nl, No.
bool isNumeric(uint32_t codePoint);
/// Letters by the property Alphabetic that are no letters by category: circled and squared ones.
struct CodePointRange {
  uint32_t first, last;
};
std::span<const CodePointRange> alphabeticSymbols();

/// Appends the lower case of a character (Unicode 17, without the rules of context).
void appendLowercase(std::string &out, uint32_t codePoint);

/// True when `tokenizers` leaves this code point alone in every normalisation form, as a starter
/// without decomposition, because its tables (Unicode 9) do not know it.
bool isUnknownToNormalization(uint32_t codePoint);

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_UNICODE_SETS_H
