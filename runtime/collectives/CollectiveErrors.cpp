//===- CollectiveErrors.cpp - What a rank says when others fail -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/CollectiveErrors.h"

#include "runtime/base/Format.h"

namespace sluice {

std::string collectivePrefix(std::string_view label) {
  return "collective \"" + std::string(label) + "\": ";
}

Status missingRanksStatus(std::span<const int> ranks, std::string_view label,
                          std::chrono::milliseconds timeout) {
  std::string text = collectivePrefix(label) + (ranks.size() == 1 ? "rank " : "ranks ");
  for (size_t i = 0; i < ranks.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  text += " did not take part within the time-out of " +
          formatDuration(std::chrono::duration<double>(timeout).count()) +
          "; look for what they last reported, or raise the time-out if they are only slow";
  return Status(StatusCode::kAborted, std::move(text),
                {.rank = ranks.empty() ? -1 : ranks.front()});
}

Status departedRankStatus(int rank, std::string_view label) {
  return Status(StatusCode::kAborted,
                collectivePrefix(label) + "rank " + std::to_string(rank) + " has left the world",
                {.rank = rank});
}

Status abortedByStatus(int rank, const Status &why) {
  return Status(StatusCode::kAborted,
                "rank " + std::to_string(rank) + " failed: " + statusCodeName(why.code()) + ": " +
                    std::string(why.message()),
                why.at({.rank = rank}).where());
}

Status abandonedStatus(std::string_view label, const Status &why) {
  return Status(StatusCode::kAborted,
                collectivePrefix(label) + "not run because " + std::string(why.message()),
                why.where());
}

} // namespace sluice
