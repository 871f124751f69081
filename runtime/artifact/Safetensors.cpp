//===- Safetensors.cpp - Reading safetensors files --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The header is hostile input. It is decoded into tensors first, each checked by itself, and then
// all ranges together: sorted by offset they must tile the data section exactly, which excludes
// overlaps, holes and missing or trailing bytes in one pass.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"

#include "runtime/base/Json.h"

#include <algorithm>

namespace sluice {

static constexpr uint64_t kLengthBytes = 8;

static std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

/// The header's length from the first eight bytes of a file of `fileSize` bytes, checked.
static Result<uint64_t> headerLength(const uint8_t *bytes, uint64_t fileSize) {
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  if (length > kMaxSafetensorsHeaderBytes)
    return dataCorrupt("header length " + std::to_string(length) + " exceeds the limit of " +
                       std::to_string(kMaxSafetensorsHeaderBytes) +
                       " bytes; this is not a safetensors file");
  if (length > fileSize - kLengthBytes)
    return dataCorrupt("header length " + std::to_string(length) + " exceeds the " +
                       std::to_string(fileSize - kLengthBytes) +
                       " bytes after it; the file is truncated or its header lies");
  return length;
}

static Status tooShort(uint64_t fileSize) {
  return dataCorrupt(std::to_string(fileSize) +
                     " bytes are too few for a header; the file is truncated");
}

/// One entry of the header. Offsets become absolute; `dataBytes` is the size of the data section.
static Result<SafetensorsTensor> decodeTensor(const std::string &name, const json::Value &value,
                                              uint64_t dataStart, uint64_t dataBytes) {
  SafetensorsTensor tensor;
  tensor.name = name;
  json::Cursor entry(value);
  SLUICE_ASSIGN_OR_RETURN(std::string typeName, entry.getString("dtype"));
  std::optional<DataType> type = parseDataType(typeName);
  if (!type)
    return dataCorrupt("unknown dtype " + quoted(typeName));
  tensor.dtype = *type;
  SLUICE_ASSIGN_OR_RETURN(tensor.shape, entry.getIntArray("shape"));
  for (int64_t extent : tensor.shape)
    if (extent < 0)
      return dataCorrupt("shape has the negative extent " + std::to_string(extent));
  std::optional<uint64_t> bytes = tensorBytes(tensor.dtype, tensor.shape);
  if (!bytes)
    return dataCorrupt("shape has more elements than can be addressed or does not fill whole bytes "
                       "of dtype " +
                       typeName);
  SLUICE_ASSIGN_OR_RETURN(std::vector<int64_t> range, entry.getIntArray("data_offsets"));
  if (range.size() != 2)
    return dataCorrupt("data_offsets has " + std::to_string(range.size()) +
                       " numbers, expected begin and end");
  std::string rangeText =
      "data_offsets [" + std::to_string(range[0]) + ", " + std::to_string(range[1]) + "]";
  if (range[0] < 0 || range[1] < range[0])
    return dataCorrupt(rangeText + " is no range");
  uint64_t begin = static_cast<uint64_t>(range[0]), end = static_cast<uint64_t>(range[1]);
  if (end > dataBytes)
    return dataCorrupt(rangeText + " exceed the file's " + std::to_string(dataBytes) +
                       " data bytes; the file is truncated or its header lies");
  if (end - begin != *bytes)
    return dataCorrupt(rangeText + " span " + std::to_string(end - begin) +
                       " bytes, but dtype and shape need " + std::to_string(*bytes));
  tensor.offset = dataStart + begin;
  tensor.bytes = *bytes;
  return tensor;
}

/// Checks that `tensors`, sorted by offset, tile [dataStart, fileSize).
static Status checkTiling(const std::vector<SafetensorsTensor> &tensors, uint64_t dataStart,
                          uint64_t fileSize) {
  uint64_t reached = dataStart;
  const std::string *previous = nullptr;
  for (const SafetensorsTensor &tensor : tensors) {
    std::string place = "tensor " + quoted(tensor.name) + ": begins at data offset " +
                        std::to_string(tensor.offset - dataStart);
    if (tensor.offset < reached)
      return dataCorrupt(place + " and overlaps tensor " + quoted(*previous) + ", which ends at " +
                         std::to_string(reached - dataStart));
    if (tensor.offset > reached)
      return dataCorrupt(place + " and leaves a hole after data offset " +
                         std::to_string(reached - dataStart) + ", where the data before it ends");
    reached += tensor.bytes;
    previous = &tensor.name;
  }
  if (reached != fileSize)
    return dataCorrupt("the file has " + std::to_string(fileSize) +
                       " bytes, but its tensors end at byte " + std::to_string(reached) +
                       "; it is damaged or its header lies");
  return Status::ok();
}

Result<SafetensorsHeader> SafetensorsHeader::parse(std::span<const uint8_t> bytes,
                                                   uint64_t fileSize, std::string_view name) {
  auto failure = [&](const Status &status) { return status.withContext(name); };
  if (fileSize < kLengthBytes || bytes.size() < kLengthBytes)
    return failure(tooShort(fileSize));
  Result<uint64_t> length = headerLength(bytes.data(), fileSize);
  if (!length.isOk())
    return failure(length.status());
  if (*length > bytes.size() - kLengthBytes)
    return failure(tooShort(bytes.size()));
  std::string_view text(reinterpret_cast<const char *>(bytes.data()) + kLengthBytes,
                        static_cast<size_t>(*length));
  if (text.empty() || text[0] != '{')
    return failure(dataCorrupt("the header does not begin with {; this is not a safetensors file"));
  SLUICE_ASSIGN_OR_RETURN(json::Value root, json::parse(text, std::string(name) + ": header"));

  SafetensorsHeader header;
  header.start = kLengthBytes + *length;
  uint64_t dataBytes = fileSize - header.start;
  for (const json::Member &member : *root.objectIf()) {
    if (member.key == "__metadata__") {
      const json::Object *entries = member.value.objectIf();
      if (!entries)
        return failure(dataCorrupt(std::string("__metadata__: expected object, found ") +
                                   json::kindName(member.value.kind())));
      for (const json::Member &entry : *entries) {
        Result<std::string> value = entry.value.asString();
        if (!value.isOk())
          return failure(value.status().withContext("__metadata__ " + quoted(entry.key)));
        header.meta.emplace(entry.key, std::move(*value));
      }
      continue;
    }
    Result<SafetensorsTensor> tensor =
        decodeTensor(member.key, member.value, header.start, dataBytes);
    if (!tensor.isOk()) // a missing key is corruption here, not something that was not found
      return failure(dataCorrupt("tensor " + quoted(member.key) + ": " +
                                 std::string(tensor.status().message())));
    header.list.push_back(std::move(*tensor));
  }
  // By both ends, so that an empty tensor stands before the one that begins where it does.
  std::stable_sort(header.list.begin(), header.list.end(),
                   [](const SafetensorsTensor &a, const SafetensorsTensor &b) {
                     return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
                   });
  Status tiling = checkTiling(header.list, header.start, fileSize);
  if (!tiling.isOk())
    return failure(tiling);
  header.index.reserve(header.list.size());
  for (size_t i = 0; i < header.list.size(); ++i)
    header.index.emplace(header.list[i].name, i);
  return header;
}

const SafetensorsTensor *SafetensorsHeader::find(std::string_view name) const {
  auto it = index.find(std::string(name));
  return it == index.end() ? nullptr : &list[it->second];
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  SLUICE_ASSIGN_OR_RETURN(RandomAccessFile file, RandomAccessFile::open(path));
  if (file.size() < kLengthBytes)
    return tooShort(file.size()).withContext(path);
  std::vector<uint8_t> bytes(kLengthBytes);
  SLUICE_RETURN_IF_ERROR(file.read(0, bytes.data(), bytes.size()));
  Result<uint64_t> length = headerLength(bytes.data(), file.size());
  if (!length.isOk())
    return length.status().withContext(path);
  bytes.resize(kLengthBytes + static_cast<size_t>(*length));
  SLUICE_RETURN_IF_ERROR(
      file.read(kLengthBytes, bytes.data() + kLengthBytes, static_cast<size_t>(*length)));
  SLUICE_ASSIGN_OR_RETURN(SafetensorsHeader header,
                          SafetensorsHeader::parse(bytes, file.size(), path));
  return SafetensorsFile(std::move(file), std::move(header));
}

Status SafetensorsFile::read(const SafetensorsTensor &tensor, uint64_t begin, void *destination,
                             size_t bytes) const {
  if (begin > tensor.bytes || bytes > tensor.bytes - begin)
    return invalidArgument(path() + ": tensor " + quoted(tensor.name) + ": bytes [" +
                           std::to_string(begin) + ", +" + std::to_string(bytes) + "] exceed its " +
                           std::to_string(tensor.bytes) + " bytes");
  return file.read(tensor.offset + begin, destination, bytes);
}

Result<std::vector<uint8_t>> SafetensorsFile::read(const SafetensorsTensor &tensor) const {
  std::vector<uint8_t> bytes(static_cast<size_t>(tensor.bytes));
  SLUICE_RETURN_IF_ERROR(read(tensor, 0, bytes.data(), bytes.size()));
  return bytes;
}

} // namespace sluice
