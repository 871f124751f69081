//===- Safetensors.h - Reading and writing safetensors files ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A safetensors file is eight bytes of header length (little endian), a JSON header that gives
// every tensor's type, shape and byte range, and the data. Checkpoints arrive in this format and
// the artifact's weights leave in it. Reading touches the header only, so that a checkpoint of a
// terabyte opens in milliseconds, and believes none of it: all ranges are checked against the file.
// Format: https://github.com/huggingface/safetensors (README, "Format").
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_ARTIFACT_SAFETENSORS_H
#define SLUICE_RUNTIME_ARTIFACT_SAFETENSORS_H

#include "runtime/base/DataType.h"
#include "runtime/base/File.h"
#include "runtime/base/Sha256.h"
#include "sluice/status.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice {

/// One tensor of a file, row major.
struct SafetensorsTensor {
  std::string name;
  DataType dtype = DataType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0; ///< of its first byte from the start of the file
  uint64_t bytes = 0;
};

/// The largest JSON header accepted, as in the reference implementation.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// A checked header. Immutable, so it may be shared across threads.
class SafetensorsHeader {
public:
  /// Checks and decodes the first bytes of a file of `fileSize` bytes. `bytes` must hold the length
  /// field and the whole JSON header and may hold more. Everything the format promises is checked:
  /// known types, shapes, ranges inside the file that agree with type and shape, and data without
  /// overlap, hole or rest. Errors are kDataCorrupt and begin with `name`.
  static Result<SafetensorsHeader> parse(std::span<const uint8_t> bytes, uint64_t fileSize,
                                         std::string_view name);

  /// The tensor of that name; null when there is none.
  const SafetensorsTensor *find(std::string_view name) const;
  /// All tensors by ascending offset.
  const std::vector<SafetensorsTensor> &tensors() const { return list; }
  /// The file's `__metadata__`.
  const std::map<std::string, std::string> &metadata() const { return meta; }
  /// The offset of the data section: 8 + the header's length.
  uint64_t dataStart() const { return start; }

private:
  std::vector<SafetensorsTensor> list;
  std::unordered_map<std::string, size_t> index;
  std::map<std::string, std::string> meta;
  uint64_t start = 0;
};

/// An open file with its header. Thread-safe.
class SafetensorsFile {
public:
  /// Opens `path` and checks its header without reading any data.
  static Result<SafetensorsFile> open(const std::string &path);

  const SafetensorsTensor *find(std::string_view name) const { return head.find(name); }
  const std::vector<SafetensorsTensor> &tensors() const { return head.tensors(); }
  const std::map<std::string, std::string> &metadata() const { return head.metadata(); }
  uint64_t dataStart() const { return head.dataStart(); }
  const SafetensorsHeader &header() const { return head; }
  const std::string &path() const { return file.path(); }
  uint64_t fileSize() const { return file.size(); }

  /// Reads bytes [begin, begin + bytes) of `tensor` (one of this file's).
  Status read(const SafetensorsTensor &tensor, uint64_t begin, void *destination,
              size_t bytes) const;
  /// Reads the whole tensor.
  Result<std::vector<uint8_t>> read(const SafetensorsTensor &tensor) const;

private:
  SafetensorsFile(RandomAccessFile file, SafetensorsHeader header)
      : file(std::move(file)), head(std::move(header)) {}
  RandomAccessFile file;
  SafetensorsHeader head;
};

/// The alignment of the data section and of every tensor in files we write: one page, so that a
/// tensor can be mapped by itself and meets every kernel's alignment.
inline constexpr uint64_t kSafetensorsAlignment = 4096;

/// True for the names of the tensors that cover alignment holes in files we write ("_pad.0", ...).
bool isSafetensorsPadding(std::string_view name);

/// What is known of a file once it is written.
struct SafetensorsSummary {
  uint64_t fileBytes = 0;
  uint64_t dataStart = 0;
  Sha256Digest sha256{};                 ///< of the whole file
  std::vector<Sha256Digest> chunkSha256; ///< of each kHashChunkBytes of it
};

/// Writes a file in two phases, so that nothing but the current piece is in memory: declare every
/// tensor, then begin(), then append the bytes tensor by tensor in that order, then finish().
/// Equal calls give equal bytes. Any safetensors reader accepts the file: the header is padded with
/// spaces and holes are covered by U8 tensors. Not thread-safe.
class SafetensorsWriter {
public:
  /// Adds an entry to `__metadata__`; entries are written in the order of their keys. Before
  /// begin().
  Status setMetadata(std::string key, std::string value);

  /// Announces a tensor and returns its offset in the data section, a multiple of
  /// kSafetensorsAlignment. Before begin(). Fails (kInvalidArgument) for a name that is taken,
  /// reserved or not UTF-8 and for a shape without a byte size.
  Result<uint64_t> declare(std::string name, DataType dtype, std::vector<int64_t> shape);

  /// Writes the header to `output`, which must be empty.
  Status begin(OutputFile output);

  /// Appends bytes of `name`, the first tensor that is not complete yet; another name or too many
  /// bytes fail (kInvalidArgument). Tensors without elements are skipped.
  Status append(std::string_view name, std::span<const uint8_t> bytes);

  /// Checks that every tensor is complete and closes the file.
  Result<SafetensorsSummary> finish();

  /// Bytes of the data section that the tensors declared so far will take.
  uint64_t dataBytes() const { return end; }
  /// The offset of the data section; valid after begin().
  uint64_t dataStart() const { return start; }

private:
  struct Entry {
    std::string name;
    DataType dtype;
    std::vector<int64_t> shape;
    uint64_t offset, bytes; ///< in the data section
  };
  std::string headerText() const;
  Status emit(std::span<const uint8_t> bytes);
  Status advance();

  std::vector<Entry> entries; ///< with the padding tensors
  std::unordered_map<std::string, size_t> names;
  std::map<std::string, std::string> meta;
  uint64_t end = 0, start = 0;
  size_t numPads = 0;

  std::optional<OutputFile> out;
  size_t current = 0;    ///< index into entries
  uint64_t position = 0; ///< bytes of entries[current] written so far
  Sha256 fileHash, chunkHash;
  std::vector<Sha256Digest> chunks;
};

} // namespace sluice

#endif // SLUICE_RUNTIME_ARTIFACT_SAFETENSORS_H
