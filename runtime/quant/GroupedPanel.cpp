//===- GroupedPanel.cpp - One panel of a quantised weight -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Codes are stored as they come: nothing is rounded here, and what a format cannot hold is an error
// rather than a near miss, because a scale that is slightly off shows only as a worse model. Codes
// are checked in the same pass that places them, without a branch per element.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/GroupedPanel.h"

#include "runtime/base/NarrowFloat.h"

#include <cmath>
#include <cstring>
#include <string>

namespace sluice::quant {
namespace {

constexpr int64_t kColumnTile = 64;
constexpr uint8_t kMaxZero = 127; ///< code - zero must fit eight bits
constexpr uint8_t kSymmetricZero = 8;

constexpr float kE2M1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

std::string place(int64_t row, int64_t column) {
  return "row " + std::to_string(row) + ", column " + std::to_string(column);
}

float decode(ElementType type, uint8_t code, uint8_t zero) {
  switch (type) {
  case ElementType::kF8E4M3:
    return f8E4M3ToF32(code);
  case ElementType::kI8:
    return float(int8_t(code));
  case ElementType::kI4:
    return float(int(code) - int(zero));
  default:
    return code & 8 ? -kE2M1[code & 7] : kE2M1[code & 7];
  }
}

bool isValidCode(ElementType type, uint8_t code) {
  switch (type) {
  case ElementType::kF8E4M3:
    return (code & 0x7f) != 0x7f;
  case ElementType::kI8:
    return true;
  default:
    return code < 16;
  }
}

/// Where the nibbles of a step lie: the byte of lane 0 within its group's codes, and the shift.
struct NibblePlace {
  explicit NibblePlace(int64_t step)
      : offset((step / 4 * 2 + step % 2) * kPanelRows), shift(step % 4 / 2 * 4) {}
  int64_t offset, shift;
};

float loadFloat(const std::byte *from) {
  float value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

} // namespace

Status GroupedPanel::checkSource(const SourceRows &source) const {
  auto needs = [&](const char *what) {
    return invalidArgument("packing " + format.name() + " needs " + what);
  };
  if (!source.scales)
    return needs("a scale for every row and group of columns");
  if (source.scaleStride < groups())
    return invalidArgument("the scales of source rows are " + std::to_string(source.scaleStride) +
                           " values apart, less than the " + std::to_string(groups()) +
                           " groups of a row");
  if (format.hasRowScale() && !source.rowScales)
    return needs("a float32 scale for every row beside those of its groups");
  if (!format.hasRowScale() && source.rowScales)
    return invalidArgument("format " + format.name() +
                           " has no row scales; multiply them into the scales of the groups");
  if (!format.zeroPoint && source.zeros)
    return invalidArgument("format " + format.name() + " has no zero points");
  return Status::ok();
}

Status GroupedPanel::packScales(const SourceRows &source, int64_t row, int64_t group, int64_t lane,
                                std::byte *header) const {
  const int64_t index = row * source.scaleStride + group;
  const float scale = source.scales[index];
  uint8_t code = 0;
  bool held = std::isfinite(scale);
  if (format.scale == ScaleType::kF32) {
    std::memcpy(header + lane * 4, &scale, 4);
  } else {
    bool e8m0 = format.scale == ScaleType::kE8M0;
    code = e8m0 ? f32ToF8E8M0(scale, ScaleRounding::kDown) : f32ToF8E4M3(scale);
    held = (e8m0 ? f8E8M0ToF32(code) : f8E4M3ToF32(code)) == scale;
    header[lane] = std::byte(code);
  }
  if (!held)
    return invalidArgument(
        "scale " + std::to_string(scale) + " of " + place(row, group * groupWidth) +
        " cannot be stored in " + format.name() + ", whose scales are " +
        (format.scale == ScaleType::kF32    ? "finite"
         : format.scale == ScaleType::kE8M0 ? "powers of two from 2^-127 to 2^127"
                                            : "values of e4m3"));
  if (format.zeroPoint) {
    uint8_t zero = source.zeros ? source.zeros[index] : kSymmetricZero;
    if (zero > kMaxZero)
      return invalidArgument("zero point " + std::to_string(zero) + " of " +
                             place(row, group * groupWidth) + " exceeds " +
                             std::to_string(kMaxZero));
    header[scaleBytes() + lane] = std::byte(zero);
  }
  return Status::ok();
}

/// Places steps [offset, offset + steps) of a group, columns from `begin`, of one row into `codes`,
/// which points at the row's byte of the group's first step.
Status GroupedPanel::packCodes(const SourceRows &source, int64_t row, int64_t begin, int64_t steps,
                               int64_t offset, std::byte *codes) const {
  const std::byte *from = source.data + row * source.rowStride + begin;
  const bool nibbles = elementBits(format.element) == 4;
  bool valid = true;
  for (int64_t i = 0; i < steps; ++i) {
    std::byte code = from[i];
    valid &= isValidCode(format.element, uint8_t(code));
    int64_t step = offset + i;
    if (NibblePlace nibble(step); nibbles)
      codes[nibble.offset] |= code << nibble.shift;
    else
      codes[step * kPanelRows] = code;
  }
  if (valid)
    return Status::ok();
  int64_t i = 0;
  while (isValidCode(format.element, uint8_t(from[i])))
    ++i;
  return invalidArgument(
      "code " + std::to_string(int(from[i])) + " of " + place(row, begin + i) +
      (nibbles ? " exceeds 15, the largest 4-bit code" : " is not a number in f8e4m3"));
}

Status GroupedPanel::pack(const SourceRows &source, int64_t row, int64_t rows,
                          std::byte *panel) const {
  std::memset(panel, 0, size_t(panelBytes()));
  for (int64_t lane = 0; format.hasRowScale() && lane < rows; ++lane) {
    float scale = source.rowScales[row + lane];
    if (!std::isfinite(scale))
      return invalidArgument("the scale of row " + std::to_string(row + lane) + " is not finite");
    std::memcpy(panel + lane * 4, &scale, 4);
  }
  for (int64_t group = 0; group < groups(); ++group) {
    std::byte *header = panel + offsetOf(group);
    for (int64_t lane = 0; lane < rows; ++lane)
      SLUICE_RETURN_IF_ERROR(packScales(source, row + lane, group, lane, header));
    std::byte *codes = header + scaleBytes() + zeroBytes();
    for (int64_t offset = 0; offset < colsOf(group); offset += kColumnTile) {
      int64_t steps = std::min(kColumnTile, colsOf(group) - offset);
      for (int64_t lane = 0; lane < rows; ++lane)
        SLUICE_RETURN_IF_ERROR(packCodes(source, row + lane, group * groupWidth + offset, steps,
                                         offset, codes + lane));
    }
  }
  return Status::ok();
}

void GroupedPanel::unpack(const std::byte *panel, int64_t rows, float *out) const {
  for (int64_t group = 0; group < groups(); ++group) {
    const std::byte *header = panel + offsetOf(group);
    const std::byte *codes = header + scaleBytes() + zeroBytes();
    for (int64_t lane = 0; lane < rows; ++lane) {
      float scale = format.scale == ScaleType::kF32    ? loadFloat(header + lane * 4)
                    : format.scale == ScaleType::kE8M0 ? f8E8M0ToF32(uint8_t(header[lane]))
                                                       : f8E4M3ToF32(uint8_t(header[lane]));
      if (format.hasRowScale())
        scale *= loadFloat(panel + lane * 4);
      uint8_t zero = format.zeroPoint ? uint8_t(header[scaleBytes() + lane]) : 0;
      float *to = out + lane * cols + group * groupWidth;
      for (int64_t step = 0; step < colsOf(group); ++step) {
        uint8_t code;
        if (NibblePlace nibble(step); elementBits(format.element) == 4)
          code = uint8_t(codes[nibble.offset + lane]) >> nibble.shift & 15;
        else
          code = uint8_t(codes[step * kPanelRows + lane]);
        to[step] = decode(format.element, code, zero) * scale;
      }
    }
  }
}

} // namespace sluice::quant
