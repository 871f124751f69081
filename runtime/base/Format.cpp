//===- Format.cpp - Text for people -----------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Rounding happens before the unit is chosen, so that 999.9 MB reads "1.00 GB" and never "1000 MB".
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Format.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <span>

namespace sluice {

std::string format(const char *pattern, ...) {
  va_list args, copy;
  va_start(args, pattern);
  va_copy(copy, args);
  int length = std::vsnprintf(nullptr, 0, pattern, args);
  va_end(args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0)
    std::vsnprintf(text.data(), text.size() + 1, pattern, copy);
  va_end(copy);
  return text;
}

/// Three significant digits of a number below 1000 or so.
static std::string threeDigits(double value) {
  return format(value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
}

static std::string scaled(uint64_t count, double base, std::span<const char *const> units) {
  if (count < static_cast<uint64_t>(base)) {
    std::string text = std::to_string(count);
    return *units[0] ? text + " " + units[0] : text;
  }
  double value = static_cast<double>(count);
  size_t unit = 0;
  while (unit + 1 < units.size() && value >= base - 0.5) {
    value /= base;
    ++unit;
  }
  return threeDigits(value) + " " + units[unit];
}

std::string formatBytes(uint64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  return scaled(bytes, 1000, kUnits);
}

std::string formatBinaryBytes(uint64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  return scaled(bytes, 1024, kUnits);
}

std::string formatCount(uint64_t count) {
  static constexpr const char *kUnits[] = {"", "K", "M", "B", "T", "P", "E"};
  return scaled(count, 1000, kUnits);
}

std::string formatDuration(double seconds) {
  if (std::isnan(seconds))
    return "unknown";
  if (seconds < 0)
    return "-" + formatDuration(-seconds);
  if (seconds == 0)
    return "0 s";
  if (seconds < 999.5e-9)
    return threeDigits(seconds * 1e9) + " ns";
  if (seconds < 999.5e-6)
    return threeDigits(seconds * 1e6) + " us";
  if (seconds < 999.5e-3)
    return threeDigits(seconds * 1e3) + " ms";
  if (seconds < 59.95)
    return threeDigits(seconds) + " s";
  if (seconds < 3599.5) {
    int whole = static_cast<int>(std::lround(seconds));
    return format("%d min %02d s", whole / 60, whole % 60);
  }
  if (seconds > 1e15)
    return format("%.3g h", seconds / 3600);
  long long minutes = std::llround(seconds / 60);
  return format("%lld h %02lld min", minutes / 60, minutes % 60);
}

} // namespace sluice
