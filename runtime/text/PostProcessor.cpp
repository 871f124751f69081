//===- PostProcessor.cpp - The "post_processor" of a tokenizer.json ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// ByteLevel only trims offsets, which we do not compute, and is therefore accepted and ignored.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/PostProcessor.h"

#include "runtime/text/BytePairModel.h"
#include "runtime/text/Normalizer.h"

namespace sluice::text {

Result<PostProcessor> PostProcessor::fromJson(const json::Cursor &postProcessor) {
  PostProcessor result;
  if (!postProcessor.value().isNull())
    SLUICE_RETURN_IF_ERROR(result.append(postProcessor, 0));
  return result;
}

Status PostProcessor::append(const json::Cursor &component, int depth) {
  SLUICE_ASSIGN_OR_RETURN(std::string type, component.getString("type"));
  if (type == "ByteLevel")
    return Status::ok();
  if (type == "TemplateProcessing")
    return readTemplate(component);
  if (type != "Sequence")
    return unsupportedType(component, type, "Sequence, TemplateProcessing, ByteLevel");
  if (depth == kMaxSequenceDepth)
    return component.error("sequences nest deeper than " + std::to_string(kMaxSequenceDepth));
  SLUICE_ASSIGN_OR_RETURN(json::Cursor list, component.getArray("processors"));
  for (size_t i = 0; i < list.value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor element, list.element(i));
    SLUICE_RETURN_IF_ERROR(append(element, depth + 1));
  }
  return Status::ok();
}

Status PostProcessor::readTemplate(const json::Cursor &component) {
  if (!parts.empty())
    return component.error("a second template in one sequence has no defined meaning");
  SLUICE_ASSIGN_OR_RETURN(json::Cursor single, component.getArray("single"));
  for (size_t i = 0; i < single.value().size(); ++i) {
    SLUICE_ASSIGN_OR_RETURN(json::Cursor piece, single.element(i));
    if (piece.has("Sequence")) {
      SLUICE_ASSIGN_OR_RETURN(json::Cursor sequence, piece.getObject("Sequence"));
      const json::Value *name = sequence.value().find("id");
      if (!name || *name != json::Value("A"))
        return sequence.error("the template of a single text has only the sequence \"A\"");
      parts.push_back({true, {}});
      continue;
    }
    SLUICE_ASSIGN_OR_RETURN(json::Cursor special, piece.getObject("SpecialToken"));
    SLUICE_ASSIGN_OR_RETURN(std::string id, special.getString("id"));
    SLUICE_ASSIGN_OR_RETURN(json::Cursor table, component.getObject("special_tokens"));
    SLUICE_ASSIGN_OR_RETURN(json::Cursor entry, table.getObject(id));
    SLUICE_ASSIGN_OR_RETURN(std::vector<int64_t> ids, entry.getIntArray("ids"));
    Part part{false, {}};
    for (int64_t value : ids) {
      if (value < 0 || value > BytePairModel::kMaxId)
        return entry.error("id " + std::to_string(value) + " is outside 0 to " +
                           std::to_string(BytePairModel::kMaxId));
      part.ids.push_back(static_cast<int32_t>(value));
    }
    parts.push_back(std::move(part));
  }
  return Status::ok();
}

std::vector<int32_t> PostProcessor::apply(std::vector<int32_t> ids, bool addSpecial) const {
  if (parts.empty())
    return ids;
  std::vector<int32_t> out;
  out.reserve(ids.size() + parts.size());
  for (const Part &part : parts)
    if (part.isSequence)
      out.insert(out.end(), ids.begin(), ids.end());
    else if (addSpecial)
      out.insert(out.end(), part.ids.begin(), part.ids.end());
  return out;
}

} // namespace sluice::text
