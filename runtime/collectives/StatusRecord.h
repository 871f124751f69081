//===- StatusRecord.h - A Status of fixed size for the wire -----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Errors travel between ranks when memory may be short and lengths cannot be negotiated, so a
// record has one size and cuts long messages. Ranks of a world run the same build on machines of
// one kind: the record is sent as it lies in memory.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_COLLECTIVES_STATUSRECORD_H
#define SLUICE_RUNTIME_COLLECTIVES_STATUSRECORD_H

#include "sluice/status.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice {

struct StatusRecord {
  StatusRecord() = default;
  /// `rank` is the sender.
  StatusRecord(const Status &status, int rank);

  /// The status; its message is cut to the size of `text`.
  Status status() const;

  /// The `index`-th of records that lie one after the other.
  static StatusRecord read(std::span<const std::byte> records, size_t index);

  int32_t rank = -1; ///< of the sender
  int32_t code = 0;
  int32_t whereRank = -1, whereDevice = -1, wherePlanOp = -1;
  uint32_t length = 0;
  char text[1000] = {};
};
static_assert(sizeof(StatusRecord) == 1024, "small enough for every transport's eager protocol");

} // namespace sluice

#endif // SLUICE_RUNTIME_COLLECTIVES_STATUSRECORD_H
