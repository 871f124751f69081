//===- PlacementFile.cpp - Placements of a whole model on disk --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/PlacementFile.h"

#include "runtime/base/Json.h"

namespace sluice {
namespace {

/// [devices + 1] the first slot of every device.
std::vector<int> equalParts(int slots, int devices) {
  std::vector<int> begin(devices + 1, 0);
  for (int d = 0; d < devices; ++d)
    begin[d + 1] = begin[d] + slots / devices + (d < slots % devices);
  return begin;
}

/// One layer a line: such files are read by people and compared by diff.
std::string idList(std::span<const int> ids) {
  std::string text = "[";
  for (size_t i = 0; i < ids.size(); ++i)
    text += (i ? ", " : "") + std::to_string(ids[i]);
  return text + "]";
}

Result<std::vector<int>> readIds(const json::Cursor &list, int experts) {
  const json::Array *values = list.value().arrayIf();
  if (!values)
    return list.error("expected a list of expert ids");
  std::vector<int> ids;
  for (const json::Value &value : *values) {
    Result<int64_t> id = value.asInt();
    if (!id.isOk() || *id < 0 || *id >= experts)
      return list.error("expected expert ids 0 .. " + std::to_string(experts - 1));
    ids.push_back(static_cast<int>(*id));
  }
  return ids;
}

} // namespace

Result<PlacementFormat> parsePlacementFormat(const std::string &name) {
  if (name == "sglang")
    return PlacementFormat::kSglang;
  if (name == "trtllm")
    return PlacementFormat::kTensorRtLlm;
  if (name == "sluice")
    return PlacementFormat::kSluice;
  return invalidArgument("placement format \"" + name + "\": known are sglang, trtllm and sluice");
}

Placement roundRobinPlacement(int experts, int devices, int slots) {
  Placement placement{experts, std::vector<int>(slots), equalParts(slots, devices)};
  for (int s = 0; s < slots; ++s)
    placement.slotExpert[s] = s % experts;
  return placement;
}

Result<std::string> formatPlacements(const std::vector<Placement> &layers,
                                     const std::vector<bool> &dense, PlacementFormat format) {
  if (layers.empty() || dense.size() != layers.size())
    return invalidArgument("no placements to write");
  int slots = layers[0].slots(), devices = layers[0].devices();
  // Memory limits can make devices unequal even where the slots divide.
  bool equal = true;
  for (int d = 0; d < devices; ++d)
    equal = equal && static_cast<int>(layers[0].onDevice(d).size()) * devices == slots;
  std::string text;
  switch (format) {
  case PlacementFormat::kTensorRtLlm:
    if (!equal)
      return invalidArgument(std::to_string(slots) + " slots on " + std::to_string(devices) +
                             " devices: format trtllm needs equal devices; ask for a multiple");
    text = "num_slots: " + std::to_string(slots) + "\ninitial_global_assignments:\n";
    for (size_t l = 0; l < layers.size(); ++l)
      if (!dense[l])
        text += "  " + std::to_string(l) + ": " + idList(layers[l].slotExpert) + "\n";
    return text + "layer_updates_per_iter: 0\n";
  case PlacementFormat::kSglang:
    text = "{\"physical_to_logical_map\": [\n";
    for (size_t l = 0; l < layers.size(); ++l)
      text += idList(layers[l].slotExpert) + (l + 1 < layers.size() ? ",\n" : "\n");
    text += "]";
    if (!equal) {
      std::vector<int> sizes;
      for (int d = 0; d < devices; ++d)
        sizes.push_back(static_cast<int>(layers[0].onDevice(d).size()));
      text += ",\n\"slots_per_device\": " + idList(sizes);
    }
    return text + "}\n";
  case PlacementFormat::kSluice:
    text = "{\"sluice_placement\": 1, \"experts\": " + std::to_string(layers[0].experts) +
           ", \"layers\": [\n";
    for (size_t l = 0; l < layers.size(); ++l) {
      text += "[";
      for (int d = 0; d < devices; ++d)
        text += (d ? ", " : "") + idList(layers[l].onDevice(d));
      text += l + 1 < layers.size() ? "],\n" : "]\n";
    }
    return text + "]}\n";
  }
  return internalError("unknown placement format");
}

Result<std::vector<Placement>> readPlacements(const std::string &path, int experts, int devices) {
  SLUICE_ASSIGN_OR_RETURN(json::Value document, json::parseFile(path));
  json::Cursor root(document, path);
  bool ours = root.has("sluice_placement");
  SLUICE_ASSIGN_OR_RETURN(json::Cursor rows,
                          root.getArray(ours ? "layers" : "physical_to_logical_map"));
  std::vector<int> sizes;
  if (!ours && root.has("slots_per_device")) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor list, root.getArray("slots_per_device"));
    SLUICE_ASSIGN_OR_RETURN(sizes, readIds(list, kMaxPlacementSlots));
    if (static_cast<int>(sizes.size()) != devices)
      return list.error(std::to_string(sizes.size()) + " devices, " + std::to_string(devices) +
                        " were asked for");
  }
  std::vector<Placement> layers;
  for (size_t l = 0; l < rows.value().size(); ++l) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor row, rows.element(l));
    Placement placement{experts, {}, {0}};
    if (ours) {
      if (!row.value().isArray() || static_cast<int>(row.value().size()) != devices)
        return row.error("expected " + std::to_string(devices) + " lists, one per device");
      for (int d = 0; d < devices; ++d) {
        SLUICE_ASSIGN_OR_RETURN(json::Cursor list, row.element(d));
        SLUICE_ASSIGN_OR_RETURN(std::vector<int> ids, readIds(list, experts));
        placement.slotExpert.insert(placement.slotExpert.end(), ids.begin(), ids.end());
        placement.deviceBegin.push_back(placement.slots());
      }
    } else {
      SLUICE_ASSIGN_OR_RETURN(placement.slotExpert, readIds(row, experts));
      if (sizes.empty()) {
        placement.deviceBegin = equalParts(placement.slots(), devices);
      } else {
        for (int size : sizes)
          placement.deviceBegin.push_back(placement.deviceBegin.back() + size);
      }
    }
    if (Status status = checkPlacement(placement); !status.isOk())
      return row.error(status.message());
    layers.push_back(std::move(placement));
  }
  return layers;
}

} // namespace sluice
