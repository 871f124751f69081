//===- SafetensorsWriter.cpp - Writing safetensors files --------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The format allows no holes, yet tensors must begin on pages. The header is therefore padded with
// spaces up to a page, and every gap becomes a U8 tensor "_pad.N" that readers list but nobody asks
// for. The layout is fixed by the declarations alone: offsets are known, and go into the plan,
// before a byte of any weight is read. Hashes are computed as the bytes pass.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Json.h"

#include <algorithm>

namespace sluice {

static constexpr std::string_view kPadPrefix = "_pad.";

bool isSafetensorsPadding(std::string_view name) {
  return name.substr(0, kPadPrefix.size()) == kPadPrefix;
}

static std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

static uint64_t alignUp(uint64_t value) {
  return (value + kSafetensorsAlignment - 1) / kSafetensorsAlignment * kSafetensorsAlignment;
}

static Status afterBegin() { return invalidArgument("the safetensors header is already written"); }

Status SafetensorsWriter::setMetadata(std::string key, std::string value) {
  if (out)
    return afterBegin();
  if (!json::isValidUtf8(key) || !json::isValidUtf8(value))
    return invalidArgument("metadata " + quoted(key) + " is not UTF-8");
  meta[std::move(key)] = std::move(value);
  return Status::ok();
}

Result<uint64_t> SafetensorsWriter::declare(std::string name, DataType dtype,
                                            std::vector<int64_t> shape) {
  if (out)
    return afterBegin();
  if (!json::isValidUtf8(name))
    return invalidArgument("tensor name " + quoted(name) + " is not UTF-8");
  if (name == "__metadata__" || isSafetensorsPadding(name))
    return invalidArgument("tensor name " + quoted(name) + " is reserved; choose another");
  std::optional<uint64_t> bytes = tensorBytes(dtype, shape);
  // The bound leaves room for the header and padding in a signed file offset.
  if (!bytes || *bytes > uint64_t(INT64_MAX) / 2 - end)
    return invalidArgument("tensor " + quoted(name) +
                           ": its shape is negative, too large or does not fill whole bytes of " +
                           dataTypeName(dtype));
  if (names.count(name))
    return invalidArgument("tensor " + quoted(name) + " is declared twice");
  uint64_t offset = alignUp(end);
  if (offset > end) {
    int64_t gap = static_cast<int64_t>(offset - end);
    entries.push_back({std::string(kPadPrefix) + std::to_string(numPads++),
                       DataType::kU8,
                       {gap},
                       end,
                       offset - end});
  }
  names.emplace(name, entries.size());
  entries.push_back({std::move(name), dtype, std::move(shape), offset, *bytes});
  end = offset + *bytes;
  return offset;
}

std::string SafetensorsWriter::headerText() const {
  json::Value root = json::Value::object();
  if (!meta.empty()) {
    json::Value metadata = json::Value::object();
    for (const auto &[key, value] : meta)
      metadata.set(key, value);
    root.set("__metadata__", std::move(metadata));
  }
  for (const Entry &entry : entries) {
    json::Value shape = json::Value::array(), range = json::Value::array();
    for (int64_t extent : entry.shape)
      shape.push(extent);
    range.push(entry.offset);
    range.push(entry.offset + entry.bytes);
    json::Value &tensor = root.set(entry.name, json::Value::object());
    tensor.set("dtype", dataTypeName(entry.dtype));
    tensor.set("shape", std::move(shape));
    tensor.set("data_offsets", std::move(range));
  }
  return root.dump();
}

Status SafetensorsWriter::emit(std::span<const uint8_t> bytes) {
  SLUICE_RETURN_IF_ERROR(out->write(bytes));
  fileHash.update(bytes);
  uint64_t offset = out->offset() - bytes.size();
  while (!bytes.empty()) {
    uint64_t room = kHashChunkBytes - offset % kHashChunkBytes;
    size_t piece = static_cast<size_t>(std::min<uint64_t>(room, bytes.size()));
    chunkHash.update(bytes.first(piece));
    if (piece == room)
      chunks.push_back(chunkHash.finish());
    bytes = bytes.subspan(piece);
    offset += piece;
  }
  return Status::ok();
}

Status SafetensorsWriter::begin(OutputFile output) {
  if (out)
    return afterBegin();
  if (output.offset() != 0)
    return invalidArgument("\"" + output.path() + "\" must be empty before a safetensors file");
  std::string text = headerText();
  start = alignUp(8 + text.size());
  text.resize(static_cast<size_t>(start - 8), ' ');
  if (text.size() > kMaxSafetensorsHeaderBytes)
    return invalidArgument(
        "a header of " + std::to_string(text.size()) + " bytes exceeds the format's limit of " +
        std::to_string(kMaxSafetensorsHeaderBytes) + "; split the tensors over several files");
  out.emplace(std::move(output));
  uint8_t length[8];
  for (size_t i = 0; i < sizeof length; ++i)
    length[i] = static_cast<uint8_t>(text.size() >> (8 * i));
  SLUICE_RETURN_IF_ERROR(emit(length));
  SLUICE_RETURN_IF_ERROR(emit({reinterpret_cast<const uint8_t *>(text.data()), text.size()}));
  return advance();
}

Status SafetensorsWriter::advance() {
  static constexpr uint8_t kZeros[kSafetensorsAlignment] = {};
  while (current < entries.size() && position == entries[current].bytes) {
    ++current;
    position = 0;
    if (current < entries.size() && isSafetensorsPadding(entries[current].name)) {
      position = entries[current].bytes;
      SLUICE_RETURN_IF_ERROR(emit(std::span(kZeros).first(static_cast<size_t>(position))));
    }
  }
  return Status::ok();
}

Status SafetensorsWriter::append(std::string_view name, std::span<const uint8_t> bytes) {
  if (!out)
    return invalidArgument("tensor " + quoted(name) + ": begin() must come before its bytes");
  if (bytes.empty())
    return Status::ok();
  if (current == entries.size() || entries[current].name != name)
    return invalidArgument("tensor " + quoted(name) + " is out of order: " +
                           (current == entries.size() ? "every tensor is complete"
                                                      : "the next bytes belong to tensor " +
                                                            quoted(entries[current].name)));
  const Entry &entry = entries[current];
  if (bytes.size() > entry.bytes - position)
    return invalidArgument("tensor " + quoted(name) + ": " +
                           std::to_string(position + bytes.size()) + " bytes exceed its " +
                           std::to_string(entry.bytes));
  SLUICE_RETURN_IF_ERROR(emit(bytes));
  position += bytes.size();
  return advance();
}

Result<SafetensorsSummary> SafetensorsWriter::finish() {
  if (!out)
    return invalidArgument("begin() must come before finish()");
  if (current < entries.size())
    return invalidArgument("tensor " + quoted(entries[current].name) + " has " +
                           std::to_string(position) + " of its " +
                           std::to_string(entries[current].bytes) + " bytes");
  SafetensorsSummary summary;
  summary.fileBytes = out->offset();
  summary.dataStart = start;
  SLUICE_RETURN_IF_ERROR(out->close());
  if (summary.fileBytes % kHashChunkBytes != 0)
    chunks.push_back(chunkHash.finish());
  summary.sha256 = fileHash.finish();
  summary.chunkSha256 = std::move(chunks);
  return summary;
}

} // namespace sluice
