//===- Format.h - Text for people -------------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Reports, progress and errors state quantities; these helpers give all of them one look: three
// significant digits and the unit a reader would choose.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_FORMAT_H
#define SLUICE_RUNTIME_BASE_FORMAT_H

#include <cstdint>
#include <string>

namespace sluice {

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...);

/// Decimal units, as disks and models are sold: "0 B", "999 B", "12.3 MB", "1.34 TB".
std::string formatBytes(uint64_t bytes);

/// Binary units, as memory is sold: "512 B", "12.3 MiB", "80.0 GiB".
std::string formatBinaryBytes(uint64_t bytes);

/// A count with a decimal suffix, as parameters are quoted: "128", "12.9 B", "4.20 M".
std::string formatCount(uint64_t count);

/// A time: "350 ns", "12.3 us", "4.56 ms", "1.24 s", "2 min 05 s", "3 h 07 min". Negative times
/// keep their sign.
std::string formatDuration(double seconds);

} // namespace sluice

#endif // SLUICE_RUNTIME_BASE_FORMAT_H
