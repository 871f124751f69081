//===- Status.cpp - Status values -------------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "sluice/status.h"

namespace sluice {

const char *statusCodeName(StatusCode code) {
  switch (code) {
  case StatusCode::kOk:
    return "ok";
  case StatusCode::kInternal:
    return "internal error";
  case StatusCode::kInvalidArgument:
    return "invalid argument";
  case StatusCode::kNotFound:
    return "not found";
  case StatusCode::kDataCorrupt:
    return "corrupt data";
  case StatusCode::kUnsupported:
    return "unsupported";
  case StatusCode::kResourceExhausted:
    return "resource exhausted";
  case StatusCode::kIo:
    return "input/output error";
  case StatusCode::kVersionMismatch:
    return "version mismatch";
  case StatusCode::kDevice:
    return "device error";
  case StatusCode::kAborted:
    return "aborted";
  case StatusCode::kCheckFailed:
    return "check failed";
  }
  return "unknown";
}

Status::Status(StatusCode code, std::string message, StatusLocation where) {
  if (code != StatusCode::kOk)
    rep = std::make_shared<const Rep>(Rep{code, std::move(message), where});
}

std::string Status::toString() const {
  if (isOk())
    return "ok";
  std::string text = std::string(statusCodeName(rep->code)) + ": " + rep->message;
  std::string place;
  auto append = [&](const char *name, int value) {
    if (value < 0)
      return;
    place += (place.empty() ? "" : ", ") + std::string(name) + " " + std::to_string(value);
  };
  append("rank", rep->where.rank);
  append("device", rep->where.device);
  append("plan op", rep->where.planOp);
  return place.empty() ? text : text + " [" + place + "]";
}

Status Status::withContext(std::string_view context) const {
  if (isOk())
    return *this;
  return Status(rep->code, std::string(context) + ": " + rep->message, rep->where);
}

Status Status::at(StatusLocation where) const {
  if (isOk())
    return *this;
  StatusLocation merged = rep->where;
  if (merged.rank < 0)
    merged.rank = where.rank;
  if (merged.device < 0)
    merged.device = where.device;
  if (merged.planOp < 0)
    merged.planOp = where.planOp;
  return Status(rep->code, rep->message, merged);
}

Status invalidArgument(std::string m) { return {StatusCode::kInvalidArgument, std::move(m)}; }
Status notFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
Status dataCorrupt(std::string m) { return {StatusCode::kDataCorrupt, std::move(m)}; }
Status unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
Status resourceExhausted(std::string m) { return {StatusCode::kResourceExhausted, std::move(m)}; }
Status ioError(std::string m) { return {StatusCode::kIo, std::move(m)}; }
Status internalError(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

} // namespace sluice
