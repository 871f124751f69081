//===- WeightFormat.cpp - How the numbers of a weight are stored ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Parsing and printing share the table of element names below; sizes that are part of a name
// (groups, tiles) are read with limits, so that a hostile plan cannot smuggle in a size that
// overflows later.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/WeightFormat.h"

#include <charconv>

namespace sluice::quant {
namespace {

constexpr int32_t kMaxBlock = 4096;

struct ElementInfo {
  const char *name;
  int bits;
};

constexpr ElementInfo kElements[] = {{"f32", 32}, {"bf16", 16}, {"f16", 16},  {"f8e4m3", 8},
                                     {"i8", 8},   {"i4", 4},    {"f4e2m1", 4}};

Status unknownFormat(std::string_view text) {
  return invalidArgument("weight format \"" + std::string(text) +
                         "\" is not known; formats are f32, bf16, f16, f8e4m3:tensor, "
                         "f8e4m3:blockRxC, E:channel and E:groupG for E of f8e4m3, i8 and i4, "
                         "mxfp4 and nvfp4");
}

/// Reads a positive size up to kMaxBlock from the front of `text`.
bool takeSize(std::string_view &text, int32_t &out) {
  if (text.empty() || text.front() < '1' || text.front() > '9')
    return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || out > kMaxBlock)
    return false;
  text.remove_prefix(size_t(end - text.data()));
  return true;
}

bool takePrefix(std::string_view &text, std::string_view prefix) {
  if (!text.starts_with(prefix))
    return false;
  text.remove_prefix(prefix.size());
  return true;
}

} // namespace

int elementBits(ElementType type) { return kElements[size_t(type)].bits; }

int elementBytes(ElementType type) { return elementBits(type) / 8; }

const char *elementTypeName(ElementType type) { return kElements[size_t(type)].name; }

Result<WeightFormat> WeightFormat::parse(std::string_view text) {
  WeightFormat format;
  for (ElementType plain : {ElementType::kF32, ElementType::kBF16, ElementType::kF16}) {
    if (text == elementTypeName(plain)) {
      format.element = plain;
      return format;
    }
  }
  format.blockRows = 1;
  if (text == "mxfp4" || text == "nvfp4") {
    bool mx = text == "mxfp4";
    format.element = ElementType::kF4E2M1;
    format.scope = ScaleScope::kGroup;
    format.scale = mx ? ScaleType::kE8M0 : ScaleType::kE4M3;
    format.blockCols = mx ? 32 : 16;
    return format;
  }

  std::string_view rest = text;
  format.scale = ScaleType::kF32;
  if (takePrefix(rest, "f8e4m3:"))
    format.element = ElementType::kF8E4M3;
  else if (takePrefix(rest, "i8:"))
    format.element = ElementType::kI8;
  else if (takePrefix(rest, "i4:"))
    format.element = ElementType::kI4;
  else
    return unknownFormat(text);
  format.zeroPoint = format.element == ElementType::kI4;
  const bool tiles = format.element == ElementType::kF8E4M3;
  if (rest == "channel" || (tiles && rest == "tensor")) {
    format.scope = rest == "tensor" ? ScaleScope::kTensor : ScaleScope::kChannel;
    format.blockRows = 0;
    return format;
  }
  if (takePrefix(rest, "group")) {
    format.scope = ScaleScope::kGroup;
    if (takeSize(rest, format.blockCols) && rest.empty())
      return format;
  } else if (tiles && takePrefix(rest, "block")) {
    format.scope = ScaleScope::kBlock;
    if (takeSize(rest, format.blockRows) && takePrefix(rest, "x") &&
        takeSize(rest, format.blockCols) && rest.empty())
      return format;
  }
  return unknownFormat(text);
}

std::string WeightFormat::name() const {
  if (element == ElementType::kF4E2M1)
    return scale == ScaleType::kE8M0 ? "mxfp4" : "nvfp4";
  std::string out = elementTypeName(element);
  switch (scope) {
  case ScaleScope::kNone:
    break;
  case ScaleScope::kTensor:
    out += ":tensor";
    break;
  case ScaleScope::kChannel:
    out += ":channel";
    break;
  case ScaleScope::kGroup:
    out += ":group" + std::to_string(blockCols);
    break;
  case ScaleScope::kBlock:
    out += ":block" + std::to_string(blockRows) + "x" + std::to_string(blockCols);
    break;
  }
  return out;
}

Status requirePackable(const WeightFormat &format) {
  auto refuse = [&](const std::string &why) {
    return unsupported("weight format \"" + format.name() + "\" has no packed layout; " + why);
  };
  if (format.scope == ScaleScope::kTensor)
    return refuse("repeat the scale for every row and use f8e4m3:channel");
  if (format.scope == ScaleScope::kBlock)
    return refuse("repeat the scales for every row of a tile and use f8e4m3:group" +
                  std::to_string(format.blockCols));
  if (format.scope == ScaleScope::kGroup && format.blockCols < kMinGroupColumns)
    return refuse("groups have at least " + std::to_string(kMinGroupColumns) + " columns");
  return Status::ok();
}

Status requireRowMajor(const WeightFormat &format) {
  if (!format.isQuantized())
    return Status::ok();
  return unsupported("weight format \"" + format.name() +
                     "\" has no row-major form; use f32, bf16 or f16 for tables");
}

Result<WeightFormat> parsePackable(std::string_view text) {
  SLUICE_ASSIGN_OR_RETURN(WeightFormat format, WeightFormat::parse(text));
  SLUICE_RETURN_IF_ERROR(requirePackable(format));
  return format;
}

} // namespace sluice::quant
