//===- TargetFile.cpp - Strict reader of target descriptions ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One table of fields serves descriptions (all required) and calibrations (any subset): two readers
// would sooner or later disagree about a key.
//
//===----------------------------------------------------------------------===//
#include "compiler/target/Target.h"

#include "runtime/base/Format.h"
#include "runtime/base/Json.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

constexpr int64_t kMaxDevices = 1 << 16;
constexpr uint64_t kMaxBytes = uint64_t(1) << 50;
constexpr std::string_view kElementTypes[] = {"f32", "bf16", "f16", "fp8", "int8", "fp4"};

/// The members of one object. Every get marks its key as known; finish() refuses the others.
class Section {
public:
  Section(json::Cursor cursor, bool complete) : cursor(std::move(cursor)), complete(complete) {}

  /// Runs `read` on the member if it is there; a missing one is an error in a complete description.
  template <typename Read> Status member(std::string_view key, Read read) {
    known.push_back(key);
    if (!cursor.value().find(key))
      return complete ? cursor.get(key).status() : Status::ok();
    SLUICE_ASSIGN_OR_RETURN(json::Cursor value, cursor.get(key));
    return read(value);
  }

  Status text(std::string_view key, std::string &out) {
    return member(key, [&](const json::Cursor &value) -> Status {
      SLUICE_ASSIGN_OR_RETURN(out, value.asString());
      return out.empty() ? value.error("must not be empty") : Status::ok();
    });
  }
  Status flag(std::string_view key, bool &out) {
    return member(key, [&](const json::Cursor &value) -> Status {
      SLUICE_ASSIGN_OR_RETURN(out, value.asBool());
      return Status::ok();
    });
  }
  Status integer(std::string_view key, int64_t least, int64_t most, int64_t &out) {
    return member(key, [&](const json::Cursor &value) -> Status {
      SLUICE_ASSIGN_OR_RETURN(out, value.asInt());
      if (out < least || out > most)
        return value.error(format("%lld is outside [%lld, %lld]", (long long)out, (long long)least,
                                  (long long)most));
      return Status::ok();
    });
  }
  Status bytes(std::string_view key, uint64_t &out) {
    int64_t value = int64_t(out);
    SLUICE_RETURN_IF_ERROR(integer(key, 0, int64_t(kMaxBytes), value));
    out = uint64_t(value);
    return Status::ok();
  }
  /// A finite number; `positive` refuses 0.
  Status number(std::string_view key, bool positive, double &out) {
    return member(key, [&](const json::Cursor &value) -> Status {
      SLUICE_ASSIGN_OR_RETURN(out, value.asDouble());
      if (!std::isfinite(out) || out < 0 || (positive && out == 0))
        return value.error(format("%g must be %s", out, positive ? "positive" : "0 or more"));
      return Status::ok();
    });
  }
  /// An object, read by `read(Section &)`.
  template <typename Read> Status section(std::string_view key, Read read) {
    return member(key, [&](const json::Cursor &value) -> Status {
      if (!value.value().isObject())
        return value.error(std::string("expected object, found ") +
                           json::kindName(value.value().kind()));
      Section inner(value, complete);
      SLUICE_RETURN_IF_ERROR(read(inner));
      return inner.finish();
    });
  }

  Status finish() const {
    for (const json::Member &entry : *cursor.value().objectIf())
      if (std::find(known.begin(), known.end(), entry.key) == known.end()) {
        std::string all;
        for (std::string_view key : known)
          all += (all.empty() ? "" : ", ") + std::string(key);
        return cursor.get(entry.key).value().error("is not known here; known are " + all);
      }
    return Status::ok();
  }

private:
  json::Cursor cursor;
  bool complete;
  std::vector<std::string_view> known;
};

Status readLink(Section &section, Link &link) {
  SLUICE_RETURN_IF_ERROR(section.number("latency_seconds", false, link.latencySeconds));
  return section.number("bytes_per_second", true, link.bytesPerSecond);
}

Status readPeaks(Section &section, Target &target) {
  for (std::string_view type : kElementTypes) {
    auto entry = std::find_if(target.peaks.begin(), target.peaks.end(),
                              [&](const auto &peak) { return peak.first == type; });
    double peak = 0;
    SLUICE_RETURN_IF_ERROR(section.number(type, true, peak));
    if (peak == 0)
      continue;
    if (entry != target.peaks.end())
      entry->second = peak;
    else
      target.peaks.emplace_back(type, peak);
  }
  return Status::ok();
}

Status readTarget(Section &root, Target &target) {
  SLUICE_RETURN_IF_ERROR(root.text("title", target.title));
  SLUICE_RETURN_IF_ERROR(root.member("kind", [&](const json::Cursor &value) -> Status {
    SLUICE_ASSIGN_OR_RETURN(target.kind, value.asString());
    if (target.kind != "host" && target.kind != "cuda" && target.kind != "rocm")
      return value.error("\"" + target.kind + "\" is no backend; known are host, cuda, rocm");
    return Status::ok();
  }));
  SLUICE_RETURN_IF_ERROR(root.text("host", target.host));
  SLUICE_RETURN_IF_ERROR(root.section("memory", [&](Section &memory) -> Status {
    SLUICE_RETURN_IF_ERROR(memory.bytes("datasheet_bytes", target.datasheetBytes));
    SLUICE_RETURN_IF_ERROR(memory.bytes("usable_bytes", target.usableBytes));
    SLUICE_RETURN_IF_ERROR(memory.flag("shared_by_ranks", target.sharedByRanks));
    SLUICE_RETURN_IF_ERROR(memory.bytes("context_bytes", target.contextBytes));
    SLUICE_RETURN_IF_ERROR(memory.bytes("collective_bytes", target.collectiveBytes));
    return memory.bytes("graph_bytes_per_launch", target.graphBytesPerLaunch);
  }));
  SLUICE_RETURN_IF_ERROR(root.section("bandwidth", [&](Section &bandwidth) {
    return bandwidth.number("memory_bytes_per_second", true, target.memoryBytesPerSecond);
  }));
  SLUICE_RETURN_IF_ERROR(root.number("launch_seconds", false, target.launchSeconds));
  SLUICE_RETURN_IF_ERROR(root.integer("tile_tokens", 1, 4096, target.tileTokens));
  SLUICE_RETURN_IF_ERROR(root.section("node", [&](Section &node) -> Status {
    SLUICE_RETURN_IF_ERROR(node.integer("devices", 1, kMaxDevices, target.devicesPerNode));
    return node.integer("max_devices", 1, kMaxDevices, target.maxDevicesPerNode);
  }));
  SLUICE_RETURN_IF_ERROR(
      root.section("intra_node", [&](Section &link) { return readLink(link, target.intraNode); }));
  return root.section("inter_node",
                      [&](Section &link) { return readLink(link, target.interNode); });
}

Status readMeasured(const json::Cursor &list, std::vector<MeasuredStep> &steps) {
  if (!list.value().isArray())
    return list.error(std::string("expected array, found ") + json::kindName(list.value().kind()));
  for (size_t i = 0; i < list.value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor entry, list.element(i));
    if (!entry.value().isObject())
      return entry.error(std::string("expected object, found ") +
                         json::kindName(entry.value().kind()));
    Section section(entry, true);
    MeasuredStep step;
    SLUICE_RETURN_IF_ERROR(section.text("model", step.model));
    SLUICE_RETURN_IF_ERROR(section.member("phase", [&](const json::Cursor &value) -> Status {
      SLUICE_ASSIGN_OR_RETURN(std::string phase, value.asString());
      step.isDecode = phase == "decode";
      if (phase != "decode" && phase != "prefill")
        return value.error("\"" + phase + "\" is no phase; known are decode and prefill");
      return Status::ok();
    }));
    SLUICE_RETURN_IF_ERROR(section.integer("tokens", 1, int64_t(1) << 31, step.tokens));
    SLUICE_RETURN_IF_ERROR(section.integer("context", 0, int64_t(1) << 31, step.context));
    SLUICE_RETURN_IF_ERROR(section.number("seconds", true, step.seconds));
    SLUICE_RETURN_IF_ERROR(section.finish());
    steps.push_back(std::move(step));
  }
  return Status::ok();
}

Status checkTarget(const Target &target, const std::string &document) {
  if (target.contextBytes + target.collectiveBytes >= target.usableBytes && target.usableBytes > 0)
    return dataCorrupt(document + ": the reserve of " +
                       formatBinaryBytes(target.contextBytes + target.collectiveBytes) +
                       " leaves nothing of the usable " + formatBinaryBytes(target.usableBytes));
  if (target.devicesPerNode > target.maxDevicesPerNode)
    return dataCorrupt(format("%s: key \"node.devices\": %lld exceeds node.max_devices %lld",
                              document.c_str(), (long long)target.devicesPerNode,
                              (long long)target.maxDevicesPerNode));
  auto isWide = [](const auto &peak) { return peak.first == "f32" || peak.first == "bf16"; };
  if (std::count_if(target.peaks.begin(), target.peaks.end(), isWide) < 2)
    return dataCorrupt(document + ": key \"peak_flops\" must have f32 and bf16");
  return Status::ok();
}

} // namespace

Result<Target> parseTarget(std::string_view text, const std::string &document) {
  SLUICE_ASSIGN_OR_RETURN(json::Value value, json::parse(text, document));
  json::Cursor cursor(value, document);
  if (!value.isObject())
    return cursor.error(std::string("expected object, found ") + json::kindName(value.kind()));
  Target target;
  Section root(cursor, true);
  SLUICE_RETURN_IF_ERROR(root.text("name", target.name));
  // Not every device multiplies every type: peaks are the one section without required keys.
  SLUICE_RETURN_IF_ERROR(root.member("peak_flops", [&](const json::Cursor &peaks) -> Status {
    if (!peaks.value().isObject())
      return peaks.error(std::string("expected object, found ") +
                         json::kindName(peaks.value().kind()));
    Section section(peaks, false);
    SLUICE_RETURN_IF_ERROR(readPeaks(section, target));
    return section.finish();
  }));
  SLUICE_RETURN_IF_ERROR(readTarget(root, target));
  SLUICE_RETURN_IF_ERROR(root.finish());
  SLUICE_RETURN_IF_ERROR(checkTarget(target, document));
  target.countIsFixed = target.devicesPerNode > 1;
  return target;
}

Status applyCalibration(Target &target, std::string_view text, const std::string &document) {
  SLUICE_ASSIGN_OR_RETURN(json::Value value, json::parse(text, document));
  json::Cursor cursor(value, document);
  if (!value.isObject())
    return cursor.error(std::string("expected object, found ") + json::kindName(value.kind()));
  Target changed = target;
  Section root(cursor, false);
  std::string name;
  SLUICE_RETURN_IF_ERROR(root.text("name", name));
  // A calibration of one chip serves every node made of it.
  if (!name.empty() && name != target.name && target.name.rfind(name + "x", 0) != 0)
    return cursor.get("name").value().error("\"" + name + "\" is not the target \"" + target.name +
                                            "\"; calibrations hold for the device they were "
                                            "measured on");
  SLUICE_RETURN_IF_ERROR(
      root.section("peak_flops", [&](Section &section) { return readPeaks(section, changed); }));
  SLUICE_RETURN_IF_ERROR(readTarget(root, changed));
  SLUICE_RETURN_IF_ERROR(root.member(
      "measured", [&](const json::Cursor &list) { return readMeasured(list, changed.measured); }));
  SLUICE_RETURN_IF_ERROR(root.finish());
  SLUICE_RETURN_IF_ERROR(checkTarget(changed, document));
  target = std::move(changed);
  return Status::ok();
}

} // namespace sluice
