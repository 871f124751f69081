//===- StatusRecord.cpp - A Status of fixed size for the wire ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/StatusRecord.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace sluice {

StatusRecord::StatusRecord(const Status &status, int sender)
    : rank(sender), code(static_cast<int32_t>(status.code())), whereRank(status.where().rank),
      whereDevice(status.where().device), wherePlanOp(status.where().planOp),
      length(std::min(status.message().size(), sizeof(text))) {
  std::memcpy(text, status.message().data(), length);
}

Status StatusRecord::status() const {
  return Status(static_cast<StatusCode>(code),
                std::string(text, std::min<size_t>(length, sizeof(text))),
                {.rank = whereRank, .device = whereDevice, .planOp = wherePlanOp});
}

StatusRecord StatusRecord::read(std::span<const std::byte> records, size_t index) {
  assert((index + 1) * sizeof(StatusRecord) <= records.size());
  StatusRecord record;
  std::memcpy(&record, records.data() + index * sizeof(StatusRecord), sizeof(StatusRecord));
  return record;
}

} // namespace sluice
